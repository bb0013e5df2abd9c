"""What a job asks of the loop, and what it gives back.

A job is a generator: it yields what it wants computed next and is resumed once that was tried. Between two
yields it only thinks. So the loop can put the wishes of many jobs into one batch.

A wish is no promise: it may be fulfilled in part, or not at all where older jobs needed the room. Whoever made it
looks at what stands and wishes again. One that waits for the disk holds nobody else up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from sessiond.daemon.engine.disk import Found
from sessiond.daemon.engine.disk.tier import LATE_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute these tokens after the branch's tip, which stands at `position`; the first of them will do."""

    branch: str
    position: int
    tokens: Sequence[int]
    rows: int = 1
    """After how many of them, the last ones, logits are wanted."""

    def cut(self, size: int) -> Compute:
        """The first `size` of the tokens, with the logits that are wanted after them, and those after the last one."""
        rows = max(1, self.rows - (len(self.tokens) - size))
        return Compute(self.branch, self.position, self.tokens[:size], rows)


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring back from memory what follows the branch's tip on the way to these tokens."""

    branch: str
    tokens: Sequence[int]


FETCH_PATIENCE_S = LATE_S
"""After that it is as if there were no entry."""


@dataclass(eq=False, slots=True)
class Fetch:
    """Wait until an entry was read from the disk. `payload` is its KV then, or None if there is none."""

    branch: str
    found: Found
    wake: Callable[[], None]
    payload: bytes | None = None
    since: float = field(default_factory=time.monotonic)
    """When somebody began to wait for it, by `time.monotonic`: it may have been asked for before."""
    read_s: float = 0.0
    """How long reading it took."""
    came: float = 0.0
    """When it was there, by `time.monotonic`."""
    over: bool = False

    def arrived(self, payload: bytes | None, read_s: float) -> None:
        """The disk's thread says what it read."""
        self.read_s, self.came = read_s, time.monotonic()
        self.payload, self.over = payload, True
        self.wake()

    @property
    def waited_s(self) -> float:
        """How long it was waited for; 0 if it was there by then."""
        return max(0.0, self.came - self.since)

    @property
    def until(self) -> float:
        """When whoever wished it gives up, by `time.monotonic`."""
        return self.since + FETCH_PATIENCE_S

    @property
    def waits(self) -> bool:
        """Whether whoever wished it has to wait still."""
        return not self.over and time.monotonic() < self.until


@dataclass(eq=False, slots=True)
class Receive:
    """Put KV that was read from the disk after the branch's tip, on the way to these tokens. What the branch has of it
    already stays as it is.
    """

    branch: str
    tokens: Sequence[int]
    found: Found
    payload: bytes
    read_s: float
    """How long the disk took."""
    waited_s: float
    """How long it was waited for: less, where it was read ahead."""
    tried: bool = False
    """Whether that was done, or refused."""


@dataclass(eq=False, slots=True)
class Adopt:
    """Put KV that comes from a snapshot after the branch's tip, which stands at `start`: that of these tokens."""

    branch: str
    start: int
    tokens: Sequence[int]
    payload: bytes
    over: bool = False
    """Whether that was done, or refused."""
    refused: str = ""
    """Why."""


@dataclass(frozen=True, slots=True)
class Waited:
    """Nothing to batch: the job itself did a bounded piece of work."""


Batchable: TypeAlias = Compute | Restore | Receive | Adopt
"""What an arena does in a batch."""
Wish: TypeAlias = Batchable | Fetch | Waited
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
class Taken:
    """What became of KV that was brought along."""

    prefilled: int
    """Tokens that were computed on the way."""
    refused: str = ""
    """Why the backend did not take it; empty if it did."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why an answer ended."""

    reason: str
    """"stop", "stop_string" or "length"."""
    stop_string: str = ""
    drafted: int = 0
    """Tokens that were guessed ahead and computed."""
    accepted: int = 0
    """Of these, how many were right."""
