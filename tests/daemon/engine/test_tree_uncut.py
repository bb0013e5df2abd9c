"""The token tree over a backend that cannot cut a sequence, as that of a recurrent model."""

from __future__ import annotations

import contextlib
import random

import pytest
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_answer, fresh_logits, kv_context, load

from sessiond.adapters.base import BackendError, Sampling
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Reuse


def _arena(max_sequences: int, tier: int = 1 << 20) -> KvArena:
    model = load(f"scripted-kv:no_truncate,max_sequences={max_sequences}")
    return KvArena(model, kv_context(model, num_ctx=64, num_ubatch=4), MemoryTier(tier))


@pytest.mark.parametrize("max_sequences", [1, 2, 8])
def test_an_edit_is_computed_anew(max_sequences: int) -> None:
    arena, loop = _arena(max_sequences), Driven(Loop())
    arena.open("it")
    for tokens in ([1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 3, 4], [1, 2]):
        assert loop.result(arena, arena.logits("it", tokens)) == fresh_logits(tokens)
        arena.check_integrity()


@pytest.mark.parametrize("max_sequences", [1, 2, 8])
def test_an_exact_hit_answers(max_sequences: int) -> None:
    arena, loop = _arena(max_sequences), Driven(Loop())
    arena.open("it")
    answer = list[int]()
    for _ in range(2):
        answer.clear()
        work = arena.generate("it", [1, 2, 3], Sampling(), 5, answer.append)
        loop.result(arena, work, rank=Rank.DECODE)
        assert answer == fresh_answer([1, 2, 3], 5)
        arena.check_integrity()


def test_a_branch_that_lost_its_cells_to_another_one_is_computed_anew() -> None:
    arena, loop = _arena(3), Driven(Loop())
    arena.open("short")
    arena.open("long")
    loop.result(arena, arena.advance("short", [1, 2], lambda _done, _total: None))
    loop.result(arena, arena.advance("long", [1, 2, *range(3, 40)], lambda _done, _total: None))
    for tokens in ([9] * 50, [8] * 50):
        loop.result(arena, arena.advance("long", tokens, lambda _done, _total: None))
        arena.check_integrity()
    assert loop.result(arena, arena.logits("short", [1, 2, 3])) == fresh_logits([1, 2, 3])


@pytest.mark.parametrize("tier", [0, 100, 1 << 20])
@pytest.mark.parametrize("max_sequences", [1, 2, 8])
def test_an_answer_after_more_than_a_micro_batch_comes_to_an_end(max_sequences: int, tier: int) -> None:
    """Where memory has no room for checkpoints, what is computed again for its logits is held by the branch alone."""
    arena, loop = _arena(max_sequences, tier), Driven(Loop())
    for branch in ("it", "other"):
        arena.open(branch)
        for tokens in ([1] * 20, [1] * 11, [1] * 20):
            loop.result(arena, arena.advance(branch, tokens, lambda _done, _total: None, [7, 11]))
    for tokens in ([1] * 20, [1] * 20, [1] * 13):
        assert loop.result(arena, arena.logits("it", tokens)) == fresh_logits(tokens)
        arena.check_integrity()


def test_a_warm_turn_is_warm() -> None:
    """Checkpoints at the ends of segments: an edit costs what stands behind it."""
    arena, loop = _arena(8), Driven(Loop())
    arena.open("it")
    segments = [1] * 10, [2] * 10, [3] * 10

    def advance(*runs: list[int]) -> Reuse:
        tokens = [token for run in runs for token in run]
        borders = [10, 20, 30]
        found: Reuse = loop.result(
            arena, arena.advance("it", tokens, lambda _done, _total: None, borders[: len(runs)])
        )
        return found

    assert advance(*segments).prefilled == 30
    assert advance(segments[0], [9] * 10, segments[2]).prefilled == 20
    assert advance(*segments).prefilled == 0
    assert advance(segments[0], [9] * 10, segments[2]).prefilled == 0
    assert advance(segments[0]).prefilled == 0


class _Forgetful(ScriptedKv):
    """Cannot return to most of its checkpoints."""

    chance = random.Random(1)

    def truncate(self, sequence: int, end: int, checkpoint: bytes = b"") -> bool:
        return self.chance.random() < 0.3 and super().truncate(sequence, end, checkpoint)


@pytest.mark.parametrize("seed", range(20))
def test_what_the_backend_cannot_return_to_is_computed_anew(seed: int) -> None:
    arena, loop = _arena(3), Driven(Loop())
    arena._context.__class__ = _Forgetful
    chance = _Forgetful.chance = random.Random(seed)
    right = 0
    for branch in ("one", "two", "three"):
        arena.open(branch)
    for _ in range(30):
        branch = chance.choice(["one", "two", "three"])
        tokens = [chance.randrange(2) for _ in range(chance.randrange(1, 28))]
        borders = [chance.randrange(1, 28) for _ in range(2)]
        job = arena.advance(
            branch, tokens, lambda _done, _total: None, [b for b in borders if b < len(tokens)]
        )
        with contextlib.suppress(BackendError):  # it says so, and the next job is none the worse
            loop.result(arena, job)
            assert loop.result(arena, arena.logits(branch, tokens)) == fresh_logits(tokens)
            right += 1
        arena.check_integrity()
    assert right > 20
