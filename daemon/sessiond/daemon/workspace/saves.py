"""How often files were saved of late, as far as the watcher told of it."""

from __future__ import annotations

import math
from collections.abc import Collection

HALF_LIFE = 100
"""Saves after which one counts half. Saves, not minutes: work that rests is not forgotten."""
COUNTS = 0.5
"""Of an edit in the newest commit. A commit is mostly made of several saves, and will count them once more."""
MOST_AT_ONCE = 50
"""Files. Whatever writes more of them together switches branches or reformats, which says nothing about the next edit."""
MAX_PATHS = 4_096
"""That are remembered."""


class Saves:
    """Of one workspace."""

    def __init__(self) -> None:
        self._now = 0
        """Saves until now."""
        self._counted: dict[str, tuple[float, int]] = {}
        """What the saves of each path came to, and when that was. The path that was saved last is last."""

    def happened(self, paths: Collection[str]) -> None:
        """These files were written, close together."""
        if len(paths) > MOST_AT_ONCE:
            return
        for path in sorted(paths):
            self._now += 1
            count = self._count(path) + COUNTS
            self._counted.pop(path, None)
            self._counted[path] = (count, self._now)
        while len(self._counted) > MAX_PATHS:
            del self._counted[next(iter(self._counted))]

    def weights(self) -> dict[str, float]:
        """What each path's saves count now, in edits of the newest commit."""
        return {path: self._count(path) for path in self._counted}

    def _count(self, path: str) -> float:
        counted, when = self._counted.get(path, (0.0, self._now))
        return counted * math.exp2((when - self._now) / HALF_LIFE)
