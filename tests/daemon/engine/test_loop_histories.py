"""Many jobs at once through the loop, with cancels and aborts anywhere: every answer is the naive one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.daemon.engine.driven import Driven, Outcome
from tests.daemon.engine.scripted import fresh_answer, fresh_logits, kv_context, load, prompt_context
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import ContextSettings, KvContext, NoRoom, Sampling
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Cancelled, Loop
from sessiond.daemon.engine.prompt_arena import PromptArena
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish, Reuse

MOST = 6
"""Tokens of an answer."""


class Asked(NamedTuple):
    """One job, and what happens after it was submitted."""

    kind: str
    branch: int
    tokens: list[int]
    turns: int
    """Turns before the next job comes."""
    cancel: bool
    """Whether it is cancelled after these turns."""


_TOKENS = st.lists(st.sampled_from([[40] * 4, [41] * 4, [42, 40]]), min_size=1, max_size=6).map(
    lambda blocks: [token for block in blocks for token in block]
)
"""Of a few blocks, so that many have a beginning or a length in common."""
_ABORTS = st.lists(st.one_of(st.none(), st.none(), st.integers(0, 6)), max_size=40)


def _asked(kinds: list[str]) -> st.SearchStrategy[list[Asked]]:
    return st.lists(
        st.builds(
            Asked, st.sampled_from(kinds), st.integers(0, 3), _TOKENS, st.integers(0, 8), st.booleans()
        ),
        min_size=1,
        max_size=14,
    )


@dataclass
class _Branch:
    """A branch, and the job that it runs."""

    name: str
    arena: Arena
    outcome: Outcome | None = None
    asked: Asked | None = None
    cancelled: bool = False
    got: list[int] = field(default_factory=list)


class _History:
    """Plays jobs over branches, two in each of two arenas, and checks every outcome."""

    def __init__(self, arenas: list[Arena], *, may_be_full: int = 0) -> None:
        self.loop = Driven(Loop())
        self.arenas = arenas
        self.may_be_full = may_be_full
        """Cells of an arena where NoRoom is an answer."""
        self.branches = [_Branch(f"b{index}", arenas[index % len(arenas)]) for index in range(4)]
        for branch in self.branches:
            branch.arena.open(branch.name)

    def play(self, jobs: list[Asked]) -> None:
        for asked in jobs:
            branch = self.branches[asked.branch]
            self._finish(branch)
            job_id, branch.outcome = self.loop.submit(*self._work(branch, asked))
            branch.asked, branch.cancelled = asked, False
            for _ in range(asked.turns):
                self.loop.loop.turn()
            if asked.cancel:
                branch.cancelled = not branch.outcome.over
                self.loop.loop.cancel(job_id)
        for branch in self.branches:
            self._finish(branch)
        for arena in self.arenas:
            arena.check_integrity()

    def _work(self, branch: _Branch, asked: Asked) -> tuple[Arena, Any, Rank]:
        branch.got = []
        arena = branch.arena

        def emit(token: int) -> Finish | None:
            branch.got.append(token)
            return None

        match asked.kind:
            case "advance":
                work: Any = arena.advance(branch.name, asked.tokens, lambda _done, _total: None)
            case "logits":
                work = arena.logits(branch.name, asked.tokens)
            case _:
                work = arena.generate(branch.name, asked.tokens, Sampling(), MOST, emit)
        return arena, work, Rank.DECODE if asked.kind == "generate" else Rank.PREFILL

    def _finish(self, branch: _Branch) -> None:
        outcome, asked = branch.outcome, branch.asked
        if outcome is None or asked is None:
            return
        self.loop.until(lambda: outcome.over)
        branch.outcome = None
        held = branch.arena.tokens(branch.name)
        answer = fresh_answer(asked.tokens, MOST)
        assert branch.got == answer[: len(branch.got)]
        match outcome.error:
            case Cancelled():
                assert branch.cancelled, "nobody cancelled it"
            case NoRoom() if self.may_be_full:
                needs = [len(b.arena.tokens(b.name)) for b in self.branches if b is not branch]
                assert sum(needs) + len(asked.tokens) + 2 * MOST + 24 > self.may_be_full
            case None:
                assert held == asked.tokens + (answer if asked.kind == "generate" else [])
                self._check_value(asked, outcome.value, answer)
            case error:
                raise AssertionError(f"failed of {error!r}") from error

    @staticmethod
    def _check_value(asked: Asked, value: Any, answer: list[int]) -> None:
        match value:
            case Reuse():
                assert value.reused + value.restored + value.prefilled == len(asked.tokens)
                assert min(value.reused, value.prefilled) >= 0
            case Finish():
                assert value.reason == ("length" if len(answer) == MOST else "stop")
            case _:
                assert value == fresh_logits(asked.tokens)


_BUDGET = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _kv_arenas(aborts: list[int | None], **sizes: int) -> list[Arena]:
    arenas: list[Arena] = []
    for _ in range(2):
        model = load(f"scripted-kv:max_sequences={sizes.get('max_sequences', 16)}")
        watched = Watched(kv_context(model, num_ctx=sizes["num_ctx"], num_batch=8, num_ubatch=4))
        watched.abort_after = list(aborts)
        arenas.append(KvArena(model, watched.as_context()))
    return arenas


@_BUDGET
@given(_asked(["advance", "generate", "logits"]), _ABORTS)
def test_with_room_for_all(jobs: list[Asked], aborts: list[int | None]) -> None:
    _History(_kv_arenas(aborts, num_ctx=1024)).play(jobs)


@_BUDGET
@given(_asked(["advance", "generate", "logits"]), _ABORTS, st.sampled_from([2, 3, 5]))
def test_where_room_is_short(jobs: list[Asked], aborts: list[int | None], max_sequences: int) -> None:
    arenas = _kv_arenas(aborts, num_ctx=48, max_sequences=max_sequences)
    _History(arenas, may_be_full=48 if max_sequences > 2 else 1).play(jobs)


@_BUDGET
@given(_asked(["advance", "generate"]))
def test_over_a_backend_with_a_cache_of_its_own(jobs: list[Asked]) -> None:
    model = load("scripted-prompt:")
    arenas: list[Arena] = [PromptArena(model, prompt_context(model, num_ubatch=4)) for _ in range(2)]
    _History(arenas).play(jobs)


@_BUDGET
@given(st.lists(_TOKENS, min_size=1, max_size=12))
def test_one_branch_reuses_the_longest_prefix_that_was_ever_computed(targets: list[list[int]]) -> None:
    model = load("scripted-kv:")
    arena, loop = KvArena(model, kv_context(model, num_ctx=1024, num_ubatch=4)), Driven(Loop())
    arena.open("it")
    ever: set[tuple[int, ...]] = {()}
    for target in targets:
        known = max(end for end in range(len(target) + 1) if tuple(target[:end]) in ever)
        reuse = loop.result(arena, arena.advance("it", target, lambda _done, _total: None))
        assert reuse == Reuse(known, 0, len(target) - known, "counted")
        ever |= {tuple(target[:end]) for end in range(len(target) + 1)}
        arena.check_integrity()


@pytest.mark.parametrize("kind", ["scripted-kv:", "scripted-prompt:"])
def test_progress_goes_up_to_the_end(kind: str) -> None:
    model = load(kind)
    context = model.new_context(ContextSettings(num_ubatch=4))
    arena: Arena = KvArena(model, context) if isinstance(context, KvContext) else PromptArena(model, context)
    arena.open("it")
    told: list[tuple[int, int]] = []
    Driven(Loop()).result(arena, arena.advance("it", [1] * 10, lambda *at: told.append(at)))
    assert told == sorted(told) and told[-1] == (10, 10)
