"""How far a run is, and how long it will take at most, on standard error."""

from __future__ import annotations

import time
from typing import TextIO

EVERY_S = 15.0
"""Where it goes to a file, so often a line."""


class Progress:
    """One line that is written over on a terminal, a line now and then elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._last = -EVERY_S
        self._width = 0

    def show(self, done: int, of: int, what: str, left_s: float) -> None:
        """`done` of so many scenarios; `what` runs now."""
        minutes, seconds = divmod(round(left_s), 60)
        line = f"bench: {done} of {of}: {what}; at most {minutes}:{seconds:02} left"
        if self._terminal:
            self._stream.write(f"\r{line.ljust(self._width)}")
            self._width = len(line)
            self._stream.flush()
        elif time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            self.say(line.removeprefix("bench: "))

    def say(self, what: str) -> None:
        """A line that stays."""
        self.clear()
        self._stream.write(f"bench: {what}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take away what is written over."""
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()
            self._width = 0
