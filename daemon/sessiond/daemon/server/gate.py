"""How much may run and wait at once. What is beyond it is refused, so that nothing piles up.

Calls are counted before their request is read: what waits here has taken no memory yet.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

from sessiond.v1.errors import SessionBusy, SessionUnavailable


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may do together, and how long one may keep the daemon waiting."""

    calls: int = 512
    """That run at once, watchers among them."""
    waiting: int = 64
    """Turns that stand behind another one of their session, over all sessions."""
    waiting_each: int = 8
    """The same for one session."""
    stall_s: float = 60.0
    """Seconds for a request to arrive whole, and for one part of an answer to be taken."""


class Gate:
    """Counts what is inside."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls = 0
        self._waiting = 0
        self._turns: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        """That run now."""
        return self._calls

    @contextlib.contextmanager
    def call(self) -> Generator[None, None, None]:
        """Any call. Raises SessionUnavailable."""
        if self._calls >= self._limits.calls:
            raise SessionUnavailable(f"{self._calls} calls are running, which is the limit")
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    @contextlib.contextmanager
    def turn(self, session: str) -> Generator[None, None, None]:
        """A turn on a session. Raises SessionBusy, SessionUnavailable."""
        ahead = self._turns[session]
        if ahead > self._limits.waiting_each:
            raise SessionBusy(session)
        if ahead and self._waiting >= self._limits.waiting:
            raise SessionUnavailable(f"{self._waiting} turns are waiting, which is the limit")
        self._turns[session] += 1
        self._waiting += bool(ahead)
        try:
            yield
        finally:
            self._turns[session] -= 1
            if self._turns[session]:
                self._waiting -= 1
            else:
                del self._turns[session]
