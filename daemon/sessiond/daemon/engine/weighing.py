"""How likely a continuation is after some tokens: its own tokens are computed, with the logits after each of them kept.

A continuation is a job on a branch of its own, so several go into one batch as several answers do. Logits live until the next
decode only. Those that are not there any more are computed again, on the side; what was computed stands in the tree as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sessiond.daemon.engine.reach import Reach
from sessiond.daemon.engine.work import Compute, Work


class Tail(Protocol):
    """Logits after the last tokens of one run of the last decode."""

    @property
    def run(self) -> int:
        """Its index in that decode."""
        ...

    def back(self, position: int) -> int | None:
        """How many tokens before the run's end the logits are that follow the first `position` tokens of the branch; None
        if there are none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scale:
    """What an arena lends to whoever weighs."""

    reach: Reach
    num_batch: int
    more_rows: int
    """Logits that one decode keeps beside those after each run."""
    after_tip: Callable[[str, list[int]], Work[int]]
    """The run whose last logits are those after the branch, which stands at these tokens; computes them if need be."""
    tail: Callable[[str], Tail | None]
    """What the last decode left for a branch."""
    logprob: Callable[[int, int, int], float]
    """Of a run, a token, and how many tokens before the run's end: the natural logarithm of the token's probability."""


def weigh(scale: Scale, branch: str, tokens: Sequence[int], more: Sequence[int]) -> Work[list[float]]:
    """Bring the branch to `tokens`, which are not none, and say for each token of `more` the natural logarithm of its
    probability after all before it. The branch goes on to the last token but one: what follows the last is not asked.
    """
    start, target = list(tokens), [*tokens, *more[:-1]]
    found: list[float] = []
    if not more:
        return found
    yield from scale.reach.to(branch, start, stops=scale.reach.stops((), len(start)))
    # By itself, though it could go into the run behind it: whoever else weighs something here shares it.
    run = yield from scale.after_tip(branch, start)
    found.append(scale.logprob(run, more[0], 0))
    while len(found) < len(more):
        at = len(start) + len(found) - 1
        yield from scale.reach.to(branch, target[:at])
        before = scale.tail(branch)
        size = min(scale.num_batch, scale.more_rows + 1, len(target) - at)
        yield Compute(branch, at, target[at : at + size], rows=size)
        tail = scale.tail(branch)
        # An older one may be of another job's tokens: this branch was in no batch, and wishes again.
        if tail is not None and tail is not before:
            found += _read(scale, tail, at + 1, more[len(found) :])
    return found


def _read(scale: Scale, tail: Tail, position: int, more: Sequence[int]) -> list[float]:
    """Of as many of these tokens as there are logits for, the first of them after `position` tokens."""
    found: list[float] = []
    for token in more:
        back = tail.back(position + len(found))
        if back is None:
            break
        found.append(scale.logprob(tail.run, token, back))
    return found
