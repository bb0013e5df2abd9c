"""How short memory is, and when that is over: the rule alone.

New cells are taken only from what is beyond the reserve (`memory.py`). What is left falls below the reserve when what was
there already grows: batches, caches, other programs. Then memory is given back, the cheapest first.
"""

from __future__ import annotations

from enum import IntEnum

EASES = 1.5
"""A level is left again when there is so many times what it began at. Else it would come and go with each thing given back."""
FASTEST = 1 << 30
"""Bytes that may go in a second, as while a model is read: how far ahead a look has to be."""
SOONEST_S, LATEST_S = 0.5, 5.0
"""The shortest and the longest time between two looks."""
PLENTY = 3.0
"""Reserves that must be left for nobody to look while nothing runs."""


class Level(IntEnum):
    """What is done, each with all that stands before it."""

    EASY = 0
    TRIM = 1
    """KV in memory beside the cells goes."""
    PARK = 2
    """Arenas on which nothing runs give their cells back."""
    REFUSE = 3
    """No new arena is made."""


BELOW = {Level.TRIM: 0.75, Level.PARK: 0.5, Level.REFUSE: 0.25}
"""Shares of the reserve at which levels begin."""


def level_at(before: Level, available: int, reserve: int) -> Level:
    """The level now, given the one before and what is left, in bytes."""

    def holds(level: Level) -> bool:
        return available < BELOW[level] * reserve * (EASES if level <= before else 1.0)

    return max((level for level in BELOW if holds(level)), default=Level.EASY)


def missing(available: int, reserve: int) -> int:
    """Bytes that have to be given back until all is easy."""
    return max(0, int(EASES * BELOW[Level.TRIM] * reserve) - available)


def look_after(level: Level, available: int, reserve: int) -> float:
    """Seconds until the next look: no more than it would take to reach the next level."""
    following = [each for each in BELOW if each > level]
    if not following:
        return SOONEST_S
    slack = available - BELOW[min(following)] * reserve
    return min(LATEST_S, max(SOONEST_S, slack / FASTEST))


def may_rest(level: Level, available: int, reserve: int) -> bool:
    """Whether nobody has to look while nothing runs."""
    return level is Level.EASY and available > PLENTY * reserve
