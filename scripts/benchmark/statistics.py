"""Medians with intervals that hold whatever the noise looks like. Pure.

An interval is made of order statistics: the median lies between the k-th smallest and the k-th largest of n independent
samples with a probability that depends on n and k alone. Outliers by any factor move it by one rank.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.90
"""That the median lies within its interval, at least."""
LEAST_SAMPLES = 5
"""With fewer no interval of order statistics is that sure: 4 samples reach 0.875."""
WIDEST = 0.5
"""Of the median, how wide an interval may be, for its figure to be told."""
NARROW = 0.1
"""Of the median, how wide it is when more repeats would add little."""
LEAST = 1e-6
"""Of anything that is divided by: a nanosecond, where times are milliseconds."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and the interval that holds the true one."""

    median: float
    low: float
    high: float
    samples: int

    @property
    def width(self) -> float:
        """Of the interval, as a share of the median."""
        spread = self.high - self.low
        if spread == 0:
            return 0.0
        return spread / abs(self.median) if self.median else math.inf

    @property
    def too_few(self) -> bool:
        """Whether the interval is not as sure as it should be: then neither of its ends says anything."""
        return self.samples < LEAST_SAMPLES

    @property
    def too_wide(self) -> bool:
        """Whether the median says little. Each end of the interval is as sure as ever."""
        return self.width > WIDEST

    @property
    def fault(self) -> str:
        """Why the figure says nothing; empty if it says something."""
        if self.too_few:
            return f"too few ({self.samples})"
        return "too wide" if self.too_wide else ""

    @property
    def narrow(self) -> bool:
        """Whether more samples would add little."""
        return not self.fault and self.width <= NARROW


def estimate(values: Sequence[float]) -> Estimate:
    """Of any samples. Raises ValueError for none, and for what is no finite number."""
    if not values:
        raise ValueError("there are no samples")
    if not all(map(math.isfinite, values)):
        raise ValueError("a sample is no finite number")
    ranked = sorted(values)
    rank = interval_rank(len(ranked))
    return Estimate(statistics.median(ranked), ranked[rank], ranked[-1 - rank], len(ranked))


def interval_rank(samples: int, confidence: float = CONFIDENCE) -> int:
    """How many of the smallest and of the largest samples lie outside of the median's interval: as many as can. 0 where
    even the whole range is not that sure.
    """
    outside, rank = 0.0, 0
    for below in range((samples - 1) // 2):
        # Twice the chance that so few of the samples, or fewer, lie below the median.
        outside += 2 * math.comb(samples, below) * 0.5**samples
        if outside > 1 - confidence:
            break
        rank = below
    return rank


def paired_ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Of each repeat that both sides have: what else the machine does changes more slowly than that."""
    return [
        one / other
        for one, other in zip(ours, theirs, strict=False)
        if one is not None and other is not None and other > LEAST
    ]


def bootstrap(
    figure: Callable[[Callable[[Sequence[float]], Sequence[float]]], float],
    *,
    seed: int = 1,
    rounds: int = 500,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """The interval of a figure that is made of several sets of samples. `figure` is given a function that draws anew from
    a set, as many as it holds. The same seed gives the same interval.
    """
    rng = random.Random(seed)

    def drawn(values: Sequence[float]) -> Sequence[float]:
        return rng.choices(values, k=len(values))

    found = sorted(figure(drawn) for _ in range(rounds))
    outside = int((1 - confidence) / 2 * rounds)
    return found[outside], found[-1 - outside]
