"""What a small batch costs by the number of its tokens, as seen lately. Pure.

A step of one token reads all weights, and one of a few reads them once too: what it costs is close to a line, with a
beginning that depends on the model and on how much stands before, and a slope that is far less than that for each token.
"""

from __future__ import annotations

import statistics
from collections import deque

LARGEST = 64
"""Tokens. Beyond, batches are bulk work, for which the line does not hold."""
_SLOPE = 0.27
"""Of the cost of one token, what each further one costs, before it was seen: so it was on two cores with AVX-512."""
_APART = 2
"""Tokens by which two batches have to differ to show a slope."""
_KEPT, _FEWEST = 15, 3
"""Slopes whose median counts: at most, and before any counts."""
_WEIGHT = 0.2
"""Of the newest batch in what one token costs."""


class StepCost:
    """The slope is seen where a batch has another size than the one before it, which ran over about as much and beside the
    same work; the beginning follows every batch.
    """

    def __init__(self) -> None:
        self._one = 0.0
        self._before = (0, 0.0)
        self._slopes: deque[float] = deque(maxlen=_KEPT)
        self._slope = _SLOPE

    def took(self, tokens: int, seconds: float) -> None:
        """A batch of so many tokens took so long."""
        if not 0 < tokens <= LARGEST or seconds <= 0:
            return
        self._compare(tokens, seconds, *self._before)
        self._before = (tokens, seconds)
        one = seconds / self._times(tokens)
        self._one += (one - self._one) * (_WEIGHT if self._one else 1.0)

    def seconds(self, tokens: int) -> float:
        """What a batch of so many tokens probably takes; in units of one token's cost before anything was seen."""
        return (self._one or 1.0) * self._times(tokens)

    def _times(self, tokens: int) -> float:
        """As many times as one token."""
        return 1 + self._slope * (tokens - 1)

    def _compare(self, tokens: int, seconds: float, tokens_before: int, seconds_before: float) -> None:
        if not tokens_before or abs(tokens - tokens_before) < _APART:
            return
        # Both lie on one line: seconds / seconds_before = (1 + slope * (tokens - 1)) / (1 + slope * (tokens_before - 1)).
        across = seconds_before * (tokens - 1) - seconds * (tokens_before - 1)
        slope = (seconds - seconds_before) / across if across else 0.0
        # Beyond these, something else was in the way: no token costs less than none, or more than one alone.
        self._slopes.append(min(max(slope, 0.0), 1.0))
        if len(self._slopes) >= _FEWEST:
            self._slope = statistics.median(self._slopes)
