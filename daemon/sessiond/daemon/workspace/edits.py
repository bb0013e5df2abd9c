"""What a git repository tells of how often the files of a workspace are edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_CHANGES = 200
"""Files of one commit, or that differ from the newest. More of them are moved or reformatted, which says nothing about the
next edit."""


@dataclass(frozen=True, slots=True)
class Edits:
    """Paths are relative to the workspace's root."""

    weights: dict[str, float] = field(default_factory=dict[str, float])
    """Expected edits, by path, as commits tell: an edit in the newest one counts 1, older ones less. A path without any
    is absent."""
    committed: dict[str, int | None] = field(default_factory=dict[str, int | None])
    """Bytes in the working tree of each file that the newest commit holds, None where that is not known. What is staged
    otherwise is absent. Empty if nothing of this is known."""

    def counted(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """What the edits of files that have so many bytes now count: those of commits, and one in the newest commit for
        each file that is new or changed since. What is being worked on is what is edited next.

        Only its size says that a file was changed: times change where nothing else does, as in a copy, and a change that
        keeps the size is rare.
        """
        uncommitted = [
            path for path, size in sizes.items() if self.committed.get(path, -1) not in {None, size}
        ]
        if not self.committed or len(uncommitted) > MAX_CHANGES:
            return self.weights
        return self.weights | {path: self.weights.get(path, 0.0) + 1.0 for path in uncommitted}
