"""Which lines of an engine's standard error are warnings of the daemon's log, and which are there for who looks closely.

What the disk tier says is for whoever runs the daemon: a folder that cannot be written costs them every restart. It says little
(`disk/sayings.py`), but the lines come from a process that reads files of others: however many come, few are warnings.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from sessiond.daemon.engine.disk.sayings import MARK, MOST

log = structlog.get_logger(__name__)

MOST_WARNINGS = 20
"""Within EVERY_S, of each engine."""
EVERY_S = 60.0


class Overheard:
    """The lines of one engine. `clock` counts seconds."""

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid = pid
        self._clock = clock
        self._since = clock()
        self._warned = 0

    def take(self, line: str) -> None:
        """Log one line."""
        if line.startswith(MARK) and self._may_warn():
            log.warning("disk.says", pid=self._pid, line=line[len(MARK) :][: 2 * MOST])
        else:
            log.debug("engine.says", pid=self._pid, line=line)

    def _may_warn(self) -> bool:
        now = self._clock()
        if now - self._since >= EVERY_S:
            self._since, self._warned = now, 0
        self._warned += 1
        return self._warned <= MOST_WARNINGS
