"""What a job asks of the loop, and what it gives back.

A job is a generator: it yields what it wants computed next and is resumed once that was tried. Between two
yields it only thinks. So the loop can put the wishes of many jobs into one batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute these tokens after the branch's tip."""

    branch: str
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Replay:
    """Compute the branch's last token again, on the side, for its logits."""

    branch: str


@dataclass(frozen=True, slots=True)
class Waited:
    """Nothing to batch: the job itself did a bounded piece of work."""


Wish: TypeAlias = Compute | Replay | Waited
Work: TypeAlias = Generator[Wish, None, T]


@dataclass(frozen=True, slots=True)
class Reuse:
    """What bringing a branch to some tokens took. reused + restored + prefilled = all of them."""

    reused: int
    restored: int
    prefilled: int
    source: str
    """"counted", "reported" or "unknown"."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why an answer ended."""

    reason: str
    """"stop", "stop_string" or "length"."""
    stop_string: str = ""
