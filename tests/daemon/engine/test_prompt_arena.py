"""The arena over a backend that keeps a cache of its own: it says what the backend said, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_answer, load, prompt_context

from sessiond.adapters.base import PromptContext, Prompted, Sampling, Unsupported
from sessiond.daemon.engine.loop import Cancelled, Loop
from sessiond.daemon.engine.prompt_arena import PromptArena
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish, Reuse, Waited


def _quiet(_done: int, _total: int) -> None: ...


def _ignored(_token: int) -> Finish | None:
    return None


def _arena(options: str = "") -> PromptArena:
    model = load(f"scripted-prompt:{options}")
    arena = PromptArena(model, prompt_context(model, num_ubatch=4))
    arena.open("it")
    return arena


def _advance(arena: PromptArena, tokens: list[int]) -> Reuse:
    reuse = Driven(Loop()).result(arena, arena.advance("it", tokens, _quiet))
    assert isinstance(reuse, Reuse)
    return reuse


def test_reuse_is_what_the_backend_reports() -> None:
    arena = _arena()
    assert _advance(arena, [1, 2, 3, 4]) == Reuse(0, 0, 4, "reported")
    assert _advance(arena, [1, 2, 5]) == Reuse(2, 0, 1, "reported")
    assert _advance(arena, [1, 2, 3, 4]) == Reuse(4, 0, 0, "reported")


def test_a_silent_backend_is_never_said_to_have_reported() -> None:
    arena = _arena("silent")
    assert _advance(arena, [1, 2, 3]) == Reuse(0, 0, 3, "unknown")
    again = _advance(arena, [1, 2, 3])
    assert again.source != "reported"
    assert again.reused + again.prefilled == 3


def test_an_answer_that_is_cancelled_inside_the_backend_says_so() -> None:
    arena, loop = _arena(), Driven(Loop())
    work = arena.generate("it", [1, 2, 3, 4], Sampling(), 3, _ignored)
    job_id, outcome = loop.submit(arena, work, Rank.DECODE)

    class CancelledOnEntry:
        """The cancel comes as the backend begins."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def answer(self, prompt: Sequence[int], sampling: Sampling, most: int) -> Iterator[Prompted]:
            loop.loop.cancel(job_id)
            found: Iterator[Prompted] = self._real.answer(prompt, sampling, most)
            return found

    real, arena._context = arena._context, cast("PromptContext", CancelledOnEntry(arena._context))
    loop.until(lambda: outcome.over)
    arena._context = real
    assert isinstance(outcome.error, Cancelled)


def test_a_cancelled_answer_leaves_no_claim_of_what_was_not_computed() -> None:
    arena, loop = _arena(), Driven(Loop())
    arena.abort()  # as a cancel does in the backend's first micro-batch
    work = arena.generate("it", [1, 2, 3, 4], Sampling(), 3, _ignored)
    assert next(work) == Waited()  # where a cancel would be thrown in
    with pytest.raises(Exception, match="aborted"):
        next(work)
    arena.clear_abort()
    assert loop.result(arena, arena.advance("it", [1, 2, 3, 4], _quiet)) == Reuse(0, 0, 4, "reported")


@pytest.mark.parametrize("turns", range(1, 6))
def test_a_cancelled_answer_leaves_a_branch_that_works(turns: int) -> None:
    arena, loop = _arena(), Driven(Loop())
    job_id, outcome = loop.submit(
        arena, arena.generate("it", [1, 2, 3], Sampling(), 9, _ignored), Rank.DECODE
    )
    for _ in range(turns):
        loop.loop.turn()
    loop.loop.cancel(job_id)
    loop.until(lambda: outcome.over)
    assert isinstance(outcome.error, Cancelled)
    held = arena.tokens("it")
    assert held == [1, 2, 3, *fresh_answer([1, 2, 3], 9)][: len(held)]
    found: list[int] = []
    loop.result(arena, arena.generate("it", [1, 2, 3], Sampling(), 9, found.append), Rank.DECODE)
    assert found == fresh_answer([1, 2, 3], 9)


def test_logits_are_unsupported() -> None:
    arena = _arena()
    with pytest.raises(Unsupported, match="logits"):
        Driven(Loop()).result(arena, arena.logits("it", [1, 2]))
