"""How fast this machine computes and restores, as seen so far: what decides between the two."""

from __future__ import annotations

import time
from collections.abc import Callable

from sessiond.daemon.engine.step_cost import LARGEST, StepCost

_WEIGHT = 0.2
"""Of the newest measurement in a running mean."""
FEWEST = 8
"""Tokens of a batch that says something of bulk work: smaller ones are dominated by reading the weights."""
_TOKENS_A_SECOND = 500.0
_BYTES_A_SECOND = 1e9
_RESTORE_S = 0.0005
"""What a restore from memory takes at least."""
_DISK_BYTES_A_SECOND = 2e8
_FETCH_S = 0.002
"""What a restore from the disk takes at least."""
AGAIN_S = 300.0
"""A disk that was slow may be fast by now, and nobody would find out, since it is not read while it counts as slow: so
long after the last measurement the guess counts again, for one try.
"""


class Rates:
    """Running means, from guesses that the first measurement replaces. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._compute = 0.0
        self._restore = 0.0
        self._fetch = 0.0
        self._fetched_at = 0.0
        self.step = StepCost()
        """Of small batches."""

    @property
    def tokens_a_second(self) -> float:
        """Of prefill."""
        return self._compute or _TOKENS_A_SECOND

    def seconds(self, tokens: int) -> float:
        """What a batch of so many tokens takes, probably; rather too much as long as no small one was seen."""
        bulk = tokens / self.tokens_a_second
        return max(bulk, self.step.seconds(tokens)) if tokens <= LARGEST else bulk

    def computed(self, tokens: int, seconds: float) -> None:
        """A batch of so many tokens took so long."""
        if tokens >= FEWEST and seconds > 0:
            self._compute = _mean(self._compute, tokens / seconds)

    def restored(self, size: int, seconds: float) -> None:
        """So many bytes of KV were brought back in so long."""
        if seconds > 0:
            self._restore = _mean(self._restore, size / seconds)

    def fetched(self, size: int, seconds: float) -> None:
        """So many bytes of KV were read from the disk and brought back in so long."""
        if seconds > 0:
            self._fetched_at = self._clock()
            # The first one may have had to wake a disk up: beside the guess it weighs no more than any other.
            self._fetch = _mean(self._fetch or _DISK_BYTES_A_SECOND, size / seconds)

    def fetching_pays(self, tokens: int, size: int) -> bool:
        """Whether `size` bytes of KV are back from the disk sooner than `tokens` tokens are computed."""
        rate = self._fetch or _DISK_BYTES_A_SECOND
        if self._clock() - self._fetched_at >= AGAIN_S:
            rate = max(rate, _DISK_BYTES_A_SECOND)
        return _FETCH_S + size / rate < tokens / self.tokens_a_second

    def restoring_pays(self, tokens: int, size: int) -> bool:
        """Whether `size` bytes of KV are back sooner than `tokens` tokens are computed."""
        restore = _RESTORE_S + size / (self._restore or _BYTES_A_SECOND)
        return restore < tokens / self.tokens_a_second


def _mean(old: float, new: float) -> float:
    return new if not old else old + _WEIGHT * (new - old)
