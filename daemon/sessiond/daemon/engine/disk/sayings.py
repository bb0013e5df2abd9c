"""What the disk tier has to say, each kind at most once a minute: a full disk fails every write alike."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

MARK = "disk tier: "
"""What each line begins with: by it the daemon knows what is for its log (`engine/overheard.py`)."""
EVERY_S = 60.0
MOST = 500
"""Characters of a line."""

Say = Callable[[str], None]
"""Takes one line for the log. It is called from the tier's own threads too, and must not wait. What it raises is lost."""


class Sayings:
    """Any thread may speak."""

    def __init__(self, say: Say, every_s: float = EVERY_S) -> None:
        self._say = say
        self._every_s = every_s
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}
        """By kind: when a line of it was let through, and how many were not since."""

    def say(self, kind: str, line: str) -> None:
        """Pass the line on, unless one of its kind was just now."""
        now = time.monotonic()
        with self._lock:
            last, withheld = self._said.get(kind, (-self._every_s, 0))
            if now - last < self._every_s:
                self._said[kind] = last, withheld + 1
                return
            self._said[kind] = now, 0
        told = f"{MARK}{_plain(line)}" + (f" (and {withheld} like it before)" if withheld else "")
        # A closed log is no reason for the engine's loop to end.
        with contextlib.suppress(Exception):
            self._say(told)


def _plain(line: str) -> str:
    """One line, whatever a file's name or a damaged database put into it."""
    return "".join(each if each.isprintable() else "?" for each in line[:MOST])
