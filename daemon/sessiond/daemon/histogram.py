"""A histogram of durations, as Prometheus has them: counts of what took at most so long."""

from __future__ import annotations

import math
from bisect import bisect_left

QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Borders for what should not be noticed."""
SLOW_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)
"""Borders for what somebody waits for: a cold prefix of a large workspace takes minutes."""


class Histogram:
    """Durations in seconds. In one thread."""

    def __init__(self, borders: tuple[float, ...]) -> None:
        self._borders = borders
        self._counts = [0] * (len(borders) + 1)
        self.sum_s = 0.0
        """Of all durations."""

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self._counts)

    @property
    def mean_s(self) -> float:
        """Their mean; 0 if there were none."""
        return self.sum_s / count if (count := self.count) else 0.0

    def add(self, seconds: float) -> None:
        """One more. What is no duration (below 0, not finite) is left out: it would spoil the sum for ever."""
        if math.isfinite(seconds) and seconds >= 0:
            self._counts[bisect_left(self._borders, seconds)] += 1
            self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """For each border, and at last for "+Inf", how many took at most so long."""
        told, total = list[tuple[str, float]](), 0
        for border, count in zip((*map(str, self._borders), "+Inf"), self._counts, strict=True):
            total += count
            told.append((border, float(total)))
        return told
