"""Which files of a history are worked on: few enough that the daemon takes all of them into the prefix. Pure.

A repository is larger than a small model's window. Were all of it replayed, most saves would not be in the prefix, and
the day would be over before much was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random

from replay_hunks import changes, stages
from sessiond.daemon.workspace import classify

EDITED_SHARE = 0.75
"""Of the room, what files may take that are edited in the replay; the rest is for others, as in any real workspace."""
FRAME = 12
"""Bytes around a file in the prompt, beside its path."""


class Choice:
    """The files that a prompt could hold, over all versions."""

    def __init__(self, versions: Iterable[Mapping[str, bytes]], seed: int) -> None:
        self._rng = Random(seed)
        self._hunks: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        """In bytes, where they are largest."""
        before: Mapping[str, bytes] | None = None
        for after in versions:
            for path, content in after.items():
                size = len(content) + len(path.encode()) + FRAME
                self._sizes[path] = max(self._sizes.get(path, 0), size)
            if before is not None:
                for path, new in changes(before, after).items():
                    self._hunks[path] += len(stages(before.get(path), new))
            before = after
        self._paths = [path for path in sorted(self._sizes) if _is_for_prompts(path, before or {})]

    def busiest(self, room: int) -> frozenset[str]:
        """Files that together never take more than `room` bytes: those with the most hunks for their size, and then any
        without one.
        """
        edited = sorted(
            (path for path in self._paths if self._hunks[path]),
            key=lambda path: (-self._hunks[path] / self._sizes[path], path),
        )
        others = [path for path in self._paths if not self._hunks[path]]
        chosen = self._fitting(edited, int(room * EDITED_SHARE))
        return chosen | self._fitting(
            self._shuffled(others), room - sum(self._sizes[path] for path in chosen)
        )

    def any(self, room: int) -> frozenset[str]:
        """The same, chosen blindly: what is to be foreseen must not have been picked for coming true."""
        return self._fitting(self._shuffled(self._paths), room)

    def _shuffled(self, paths: list[str]) -> list[str]:
        return self._rng.sample(paths, len(paths))

    def _fitting(self, paths: Iterable[str], room: int) -> frozenset[str]:
        """As many of them as fit, each in its turn."""
        chosen: list[str] = []
        for path in paths:
            if self._sizes[path] <= room:
                chosen.append(path)
                room -= self._sizes[path]
        return frozenset(chosen)


def _is_for_prompts(path: str, files: Mapping[str, bytes]) -> bool:
    """Whether the daemon would take it, by what is there in the end; what is gone by then is taken as text."""
    if classify.by_name(path) is not None:
        return False
    return path not in files or isinstance(classify.by_content(path, files[path]), str)
