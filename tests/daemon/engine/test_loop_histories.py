"""Many jobs at once through the loop, with forks, parks, cancels and aborts anywhere: every answer is the naive one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.history import MOST, Asked, History, Judge
from tests.daemon.engine.scripted import fresh_answer, kv_context, load, prompt_context
from tests.daemon.engine.tree_facts import check_cells, check_tier
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import ContextSettings, KvContext
from sessiond.daemon.engine.answer import Answer
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.prompt_arena import PromptArena
from sessiond.daemon.engine.work import Reuse

AMPLE = 1 << 20
TINY = 400
"""Bytes of a tier that takes a few short runs."""
CELLS = 48
"""Enough for any one branch, and never for all."""

_TOKENS = st.lists(st.sampled_from([[40] * 4, [41] * 4, [42, 40]]), min_size=1, max_size=6).map(
    lambda blocks: [token for block in blocks for token in block]
)
"""Of a few blocks, so that many have a beginning or a length in common."""
_ABORTS = st.lists(st.one_of(st.none(), st.none(), st.integers(0, 6)), max_size=40)
_JOBS = ["advance", "generate", "logits", "hot"]
_BUDGET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are guessed ahead all the time, rightly for a while and then wrongly: what the scripted model says hardly ever
    repeats anything.
    """

    def guess(answer: Answer) -> list[int]:
        if answer.guesses is None:
            return []
        so_far = len(answer.target)
        right = fresh_answer(answer.target, so_far % 4)
        return [*right, 40, 41, 42][: min(answer.left - 1, so_far % 7)]

    monkeypatch.setattr(Answer, "_guess", guess)


def _asked(kinds: list[str]) -> st.SearchStrategy[list[Asked]]:
    cancels = st.sampled_from(["", "", "after", "inside"])
    return st.lists(
        st.builds(Asked, st.sampled_from(kinds), st.integers(0, 3), _TOKENS, st.integers(0, 8), cancels),
        min_size=8,
        max_size=24,
    )


class _Arenas:
    """Two arenas over watched contexts, with one memory tier."""

    def __init__(
        self, model: str, aborts: list[int | None], *, num_ctx: int, tier: int, always_worth: bool = True
    ) -> None:
        self._model = load(model)
        self._num_ctx = num_ctx
        self._tier = MemoryTier(tier)
        self._aborts = aborts
        self._always_worth = always_worth
        self._arenas = [
            KvArena(self._model, self._context(i), self._tier, partial(self._context, i)) for i in range(2)
        ]

    def _context(self, index: int) -> KvContext:
        watched = Watched(kv_context(self._model, num_ctx=self._num_ctx, num_batch=8, num_ubatch=4))
        watched.abort_after = list(self._aborts)

        def inside() -> None:
            happens = self._history.inside.pop(id(self._arenas[index]), None)
            if happens is not None:
                happens()

        watched.before_decode = inside
        return watched.as_context()

    def play(self, jobs: list[Asked], judge: Judge | None = None) -> None:
        self._history = History(list(self._arenas), judge or Judge(), self._check)
        self._history.play(jobs)

    def _check(self) -> None:
        for arena in self._arenas:
            if self._always_worth:  # whatever was measured
                arena.rates._compute, arena.rates._restore = 1e3, 1e9
            if not arena.parked:
                check_cells(arena._tree, arena._context)  # type: ignore[arg-type]  # it stands before a scripted one
        check_tier([arena._tree for arena in self._arenas], self._tier)


@_BUDGET
@given(_asked([*_JOBS, "fork", "park"]), _ABORTS, st.booleans())
def test_with_room_for_all(jobs: list[Asked], aborts: list[int | None], worth: bool) -> None:
    _Arenas("scripted-kv:", aborts, num_ctx=1024, tier=AMPLE, always_worth=worth).play(jobs)


@pytest.mark.parametrize("max_sequences", [1, 2, 5])
@_BUDGET
@given(_asked([*_JOBS, "fork", "park"]), _ABORTS, st.booleans())
def test_where_room_is_short_memory_makes_up_for_it(
    max_sequences: int, jobs: list[Asked], aborts: list[int | None], worth: bool
) -> None:
    model = f"scripted-kv:max_sequences={max_sequences}"
    _Arenas(model, aborts, num_ctx=CELLS, tier=AMPLE, always_worth=worth).play(jobs)


@pytest.mark.parametrize("tier", [0, TINY])
@_BUDGET
@given(_asked([*_JOBS, "fork", "park"]), _ABORTS, st.sampled_from([1, 3, 5]))
def test_where_memory_is_short_too(
    tier: int, jobs: list[Asked], aborts: list[int | None], max_sequences: int
) -> None:
    def is_full(mine: Sequence[int], others: Sequence[int]) -> bool:
        # An idle branch and the tokens that a decode has computed and nobody was told of may stand beside.
        return max_sequences == 1 or sum(mine) + sum(others) + MOST > CELLS

    model = f"scripted-kv:max_sequences={max_sequences}"
    _Arenas(model, aborts, num_ctx=CELLS, tier=tier).play(jobs, Judge(is_full, restores=tier > 0))


@pytest.mark.parametrize("tier", [0, TINY, AMPLE])
@_BUDGET
@given(_asked([*_JOBS, "fork", "park"]), _ABORTS, st.sampled_from([1, 3, 8]), st.booleans())
def test_where_no_sequence_can_be_cut(
    tier: int, jobs: list[Asked], aborts: list[int | None], max_sequences: int, ample: bool
) -> None:
    num_ctx = 1024 if ample else CELLS
    model = f"scripted-kv:no_truncate,max_sequences={max_sequences}"
    _Arenas(model, aborts, num_ctx=num_ctx, tier=tier).play(jobs, Judge(restores=False))


@_BUDGET
@given(_asked(["advance", "generate", "hot", "fork"]))
def test_over_a_backend_with_a_cache_of_its_own(jobs: list[Asked]) -> None:
    model = load("scripted-prompt:")
    arenas: list[Arena] = [PromptArena(model, prompt_context(model, num_ubatch=4)) for _ in range(2)]
    History(arenas, Judge(restores=False), lambda: None).play(jobs)


@pytest.mark.parametrize("tier", [0, AMPLE])
@_BUDGET
@given(st.lists(_TOKENS, min_size=1, max_size=12))
def test_one_branch_reuses_the_longest_prefix_that_was_ever_computed(
    tier: int, targets: list[list[int]]
) -> None:
    model = load("scripted-kv:")
    context = kv_context(model, num_ctx=1024, num_ubatch=4)
    arena, loop = KvArena(model, context, MemoryTier(tier)), Driven(Loop())
    arena.open("it")
    ever: set[tuple[int, ...]] = {()}
    for target in targets:
        known = max(end for end in range(len(target) + 1) if tuple(target[:end]) in ever)
        reuse = loop.result(arena, arena.advance("it", target, lambda _done, _total: None))
        restored = reuse.restored if tier else 0  # what was left goes to memory, if there is any
        assert replace(reuse, restore_ms=0.0) == Reuse(
            known - restored, restored, len(target) - known, "counted"
        )
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
