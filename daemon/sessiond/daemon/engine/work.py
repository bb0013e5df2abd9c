"""What a job asks of the loop, and what it gives back.

A job is a generator: it yields what it wants computed next and is resumed once that was tried. Between two
yields it only thinks. So the loop can put the wishes of many jobs into one batch.

A wish is no promise: it may be fulfilled in part, or not at all where older jobs needed the room. Whoever made it
looks at what stands and wishes again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute these tokens after the branch's tip, which stands at `position`; the first of them will do."""

    branch: str
    position: int
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring back from memory what follows the branch's tip on the way to these tokens."""

    branch: str
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Waited:
    """Nothing to batch: the job itself did a bounded piece of work."""


Wish: TypeAlias = Compute | Restore | Waited
Work: TypeAlias = Generator[Wish, None, T]


@dataclass(frozen=True, slots=True)
class Reuse:
    """What bringing a branch to some tokens took. reused + restored + prefilled = all of them."""

    reused: int
    restored: int
    prefilled: int
    source: str
    """"counted", "reported" or "unknown"."""
    restore_ms: float = 0.0
    """Of the time it took, what went into restores."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why an answer ended."""

    reason: str
    """"stop", "stop_string" or "length"."""
    stop_string: str = ""
