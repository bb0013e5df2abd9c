"""What nobody waits for, while others work: seldom, and for a small share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """Allows an act every `every_s` seconds at most, and so seldom that it takes no more than `share` of the time. `clock` counts
    seconds.
    """

    def __init__(self, every_s: float, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._share = share
        self._clock = clock
        self._next = clock() + every_s

    def spend(self, act: Callable[[], None]) -> None:
        """Do it, unless it was done just now."""
        began = self._clock()
        if began < self._next:
            return
        act()
        over = self._clock()
        self._next = over + max(self._every_s, (over - began) / self._share)
