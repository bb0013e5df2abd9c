"""How often an engine died in a row, and how long it then has to wait before it is started again.

The first deaths cost no wait: one is bad luck, and a second sets aside the disk entry that both were about
(`disk/marks.py`). After that each wait is twice as long as the one before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FREE = 2
"""Deaths in a row after which the next engine is started at once."""
FIRST_S = 1.0
"""The first wait; each later one is twice as long."""
MOST_S = 60.0
"""No wait is longer."""
CALM_S = 10.0
"""So long after it stood again, and at least as long as the last wait, without a death, and the next one is the first of a
new row. So waits take no more than half of the time, and an engine that is of use between its deaths waits for none. To
load a model is of no use yet, however long it takes.
"""


def wait_after(deaths: int) -> float:
    """Seconds to wait after so many deaths in a row."""
    return min(MOST_S, FIRST_S * 2.0 ** min(deaths - FREE - 1, 32)) if deaths > FREE else 0.0


class Deaths:
    """Those of one engine."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.row = 0
        """How many in a row."""
        self.cause = ""
        """Of the last one."""
        self._until = 0.0
        """When the next engine may be started."""
        self._stood: float | None = None
        """Since when one stands; None while none does."""

    def died(self, cause: str) -> None:
        """Once more."""
        now = self._clock()
        self.row = 1 if self.is_past else self.row + 1
        self.cause = cause
        self._stood = None
        self._until = now + wait_after(self.row)

    def stood(self) -> None:
        """The next engine stands."""
        self._stood = self._clock()

    @property
    def wait_s(self) -> float:
        """Seconds until the next engine may be started; 0 if it may be now."""
        return max(0.0, self._until - self._clock()) if self.row else 0.0

    @property
    def is_past(self) -> bool:
        """Whether so much time went by without a death that the next one begins a new row."""
        if not self.row or self._stood is None:
            return not self.row
        return self._clock() - max(self._until, self._stood) > max(CALM_S, wait_after(self.row))

    def sentence(self) -> str:
        """What a client is told while it has to wait."""
        return (
            f"the engine died {self.row} times in a row, the last time so: {self.cause}; "
            f"it may be started again in {self.wait_s:.1f} s"
        )
