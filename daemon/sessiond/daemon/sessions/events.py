"""What happens to a session, for those who watch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeAlias

from sessiond.daemon.sessions.miss import Miss
from sessiond.v1.errors import SessionUnavailable

BACKLOG = 1024
"""Events that a slow watcher may be behind. After that the oldest go: progress is told again anyway."""


@dataclass(frozen=True, slots=True)
class PrefillProgressed:
    """A prefill went on. Counts include what was reused."""

    stage: str
    done_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Invalidated:
    """Part of the prefix is no longer what it was."""

    miss: Miss


@dataclass(frozen=True, slots=True)
class Faulted:
    """The session cannot go on as it was."""

    reason: str
    message: str


def engine_died(cause: str) -> Faulted:
    """The engine died: the session is what it was, and its KV is gone from the cells."""
    return Faulted(SessionUnavailable.reason, f"the engine died, and another one takes its place: {cause}")


def engine_restarted() -> Faulted:
    """Another engine stands in the place of the one that died."""
    return Faulted(
        SessionUnavailable.reason, "the engine was started again; KV comes back from the disk or is computed"
    )


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The session changed its state."""

    state: str


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """Files of the workspace changed, or what editors ask for them. No paths: any of them may have."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeepHotRan:
    """The background prefill after a save."""

    phase: str
    """"started", "finished" or "superseded"."""
    prefilled_tokens: int
    lag_ms: float
    """From the save until it was finished; 0 before."""


What: TypeAlias = PrefillProgressed | FilesChanged | KeepHotRan | Invalidated | Faulted | StateChanged


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something that happened, and when (milliseconds since 1970)."""

    what: What
    time_ms: float = field(default_factory=lambda: time.time() * 1e3)


class Broadcast:
    """One session's events to all who watch it."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[SessionEvent | None]] = set()

    def tell(self, what: What) -> None:
        """Tell everybody. Never waits."""
        self._put(SessionEvent(what))

    def end(self) -> None:
        """Nothing more will come."""
        self._put(None)

    def _put(self, event: SessionEvent | None) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    @contextlib.contextmanager
    def watch(self) -> Generator[asyncio.Queue[SessionEvent | None], None, None]:
        """A queue of what happens from now on; None is the end."""
        queue: asyncio.Queue[SessionEvent | None] = asyncio.Queue(BACKLOG)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
