"""How likely continuations are: what is said of each token is what a context says that has seen nothing else, whatever else
the tree holds, however many are weighed at once, and wherever the batches are cut.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from tests.daemon.engine.driven import Driven, Outcome
from tests.daemon.engine.scripted import kv_context, load, prompt_context
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import Run, Unsupported
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Cancelled, Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.prompt_arena import PromptArena

_FRESH = load("scripted-kv:")


def _naive(tokens: Sequence[int], more: Sequence[int]) -> list[float]:
    """One token after the other, in a context that has seen nothing else."""
    context = kv_context(_FRESH)
    new, found = list(tokens), list[float]()
    for token in more:
        context.decode([Run(0, context.end(0), new, want_logits=1)])
        found.append(context.likely(0, token, 3).taken[1])
        new = [token]
    return found


class _Place:
    """An arena with some branches, over a context that is watched."""

    def __init__(self, branches: int = 1, flags: str = "", num_ctx: int = 256, num_batch: int = 16) -> None:
        model = load(f"scripted-kv:{flags}")
        self.context = Watched(kv_context(model, num_ctx=num_ctx, num_batch=num_batch, num_ubatch=8))
        self.arena = KvArena(model, self.context.as_context(), MemoryTier(1 << 20))
        self.loop = Driven(Loop(), self.arena.check_integrity)
        self.branches = [f"b{index}" for index in range(branches)]
        for branch in self.branches:
            self.arena.open(branch)

    def weigh(self, tokens: Sequence[int], more: Sequence[int], branch: str = "b0") -> list[float]:
        found: list[float] = self.loop.result(self.arena, self.arena.weigh(branch, tokens, more))
        return found

    def submit(self, tokens: Sequence[int], more: Sequence[int], branch: str) -> Outcome:
        return self.loop.submit(self.arena, self.arena.weigh(branch, tokens, more))[1]

    def all_over(self, outcomes: Sequence[Outcome]) -> None:
        self.loop.until(lambda: all(outcome.over for outcome in outcomes))


@pytest.mark.parametrize("flags", ["", "no_truncate", "max_sequences=3", "max_sequences=3,no_truncate"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_said_is_what_a_fresh_context_says(flags: str, seed: int) -> None:
    draw = random.Random(f"{flags} {seed}")
    place = _Place(3, flags, num_ctx=192, num_batch=draw.choice([2, 5, 16]))
    place.context.more_rows = draw.choice([0, 1, 4, 64])

    def some(least: int, most: int) -> list[int]:
        return [draw.randrange(3) for _ in range(draw.randint(least, most))]

    for _ in range(6):
        # A few tokens only, so that much is alike: paths that part, join, and are parts of each other.
        tokens = some(1, 24)
        asked = [(tokens if draw.random() < 0.7 else some(1, 24), some(1, 20)) for _ in place.branches]
        outcomes = [
            place.submit(before, more, name)
            for name, (before, more) in zip(place.branches, asked, strict=True)
        ]
        place.all_over(outcomes)
        for outcome, (before, more) in zip(outcomes, asked, strict=True):
            assert outcome.error is None
            assert outcome.value == _naive(before, more)


def test_one_token_after_what_was_just_computed_costs_nothing() -> None:
    place = _Place()
    place.loop.result(place.arena, place.arena.advance("b0", [1] * 6, lambda _done, _total: None))
    place.context.batches.clear()
    assert place.weigh([1] * 6, [2]) == _naive([1] * 6, [2])
    assert place.context.batches == []


def test_logits_of_an_earlier_job_of_the_branch_are_not_taken_for_those_of_this_one() -> None:
    place = _Place(2)
    first = place.weigh([1] * 6, [1, 2, 3, 4])
    assert first == _naive([1] * 6, [1, 2, 3, 4])
    # No decode lies between: the logits of the first job's run are still there, at the positions of the second one's.
    assert place.weigh([1] * 6, [5, 6, 7, 8]) == _naive([1] * 6, [5, 6, 7, 8])
    assert place.weigh([1] * 6, [1, 2, 9, 9]) == _naive([1] * 6, [1, 2, 9, 9])


def test_several_go_into_one_batch() -> None:
    place = _Place(4, num_batch=32)
    place.loop.result(place.arena, place.arena.advance("b0", [1] * 6, lambda _done, _total: None))
    place.context.batches.clear()
    runs = [[2, 9, 9], [3, 9, 9], [4, 9, 9], [5, 9, 9]]
    outcomes = [place.submit([1] * 6, run, name) for name, run in zip(place.branches, runs, strict=True)]
    place.all_over(outcomes)
    assert [outcome.value for outcome in outcomes] == [_naive([1] * 6, run) for run in runs]
    assert place.context.batches == [8]  # two tokens of each: what follows the last one is not asked


def test_the_last_token_is_weighed_and_not_computed() -> None:
    place = _Place()
    place.weigh([1] * 6, [2, 3, 4])
    assert place.arena.tokens("b0") == [1] * 6 + [2, 3]


def test_nothing_to_weigh_is_nothing() -> None:
    assert _Place().weigh([1] * 6, []) == []


def test_a_cancel_leaves_a_branch_that_works() -> None:
    place = _Place(num_batch=2)
    job, outcome = place.loop.submit(place.arena, place.arena.weigh("b0", [1] * 6, [2] * 12))
    place.loop.turn()
    place.loop.turn()
    place.loop.loop.cancel(job)
    place.loop.until(lambda: outcome.over)
    assert isinstance(outcome.error, Cancelled)
    assert place.weigh([1] * 6, [2] * 12) == _naive([1] * 6, [2] * 12)


def test_a_backend_that_takes_whole_prompts_does_not_tell() -> None:
    model = load("scripted-prompt:")
    arena = PromptArena(model, prompt_context(model))
    arena.open("b0")
    with pytest.raises(Unsupported, match="logprobs"):
        Driven(Loop()).result(arena, arena.weigh("b0", [1], [2]))
