"""Ctrl-C, SIGTERM and SIGHUP end the demo in order, whenever they come.

What a signal's handler raises comes up at any line: also between the start of a process and the line that notes it, or
in the middle of ending one. So a signal raises only within `interruptible`, and only once; elsewhere it is noted.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator


class Interrupted(BaseException):
    """The demo was told to end. Not an Exception, so that nothing takes it for a fault."""


class Signals:
    """The signals that end the demo, caught from now on."""

    def __init__(self) -> None:
        self.status: int | None = None
        """The exit status that the first one asks for; None if none came."""
        self._open = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    @contextlib.contextmanager
    def interruptible(self) -> Generator[None, None, None]:
        """Let a signal raise Interrupted in the body: one that came before, or the first that comes."""
        self._open = True
        try:
            if self.status is not None:
                raise Interrupted
            yield
        finally:
            self._open = False

    def _hear(self, number: int, _frame: object) -> None:
        if self.status is None:
            self.status = 128 + number
            if self._open:
                raise Interrupted
