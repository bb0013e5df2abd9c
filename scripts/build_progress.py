"""Shows how far a compilation is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import re
import sys
import time
from typing import TextIO

STEP = re.compile(r"\[(\d+)/(\d+)\]")
"""How ninja counts its steps, wherever in the line uv puts it."""

SECONDS_BETWEEN_LINES = 15.0
BAR_WIDTH = 30


class Progress:
    """Takes the build's output line by line and shows the steps that it finds there."""

    def __init__(self, label: str, out: TextIO = sys.stdout) -> None:
        self._label = label
        self._out = out
        self._live = out.isatty()
        self._started = time.monotonic()
        self._last_line_at = self._started
        self.step = 0
        """Steps done; 0 where nothing was compiled."""
        self.total = 0

    def feed(self, line: str) -> None:
        found = STEP.search(line)
        if found:
            self.step, self.total = int(found[1]), int(found[2])
            self.show()

    def show(self) -> None:
        """Show the state, if it is time. Call it now and then also without a new line: a long step is no standstill."""
        now = time.monotonic()
        if self._live:
            if self.total:
                filled = BAR_WIDTH * self.step // self.total
                bar = "#" * filled + "." * (BAR_WIDTH - filled)
                self._out.write(f"\r{self._label} [{bar}] {self.step}/{self.total} {self._clock()} ")
            else:
                self._out.write(f"\r{self._label} … {self._clock()} ")
            self._out.flush()
        elif now - self._last_line_at >= SECONDS_BETWEEN_LINES:
            self._last_line_at = now
            steps = f"{self.step}/{self.total} steps" if self.total else "preparing"
            print(f"{self._label}: {steps}, {self._clock()}", file=self._out, flush=True)

    def close(self) -> None:
        """End the bar's line."""
        if self._live:
            self._out.write("\n")
            self._out.flush()

    def _clock(self) -> str:
        elapsed = int(time.monotonic() - self._started)
        return f"{elapsed // 60}:{elapsed % 60:02}"
