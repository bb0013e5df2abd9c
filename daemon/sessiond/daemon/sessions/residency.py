"""Where the KV of a session's tokens is: in the backend's cells, in memory, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sessiond.daemon.sessions.manifest import ManifestSegment


@dataclass(frozen=True, slots=True)
class Residency:
    """Counts are tokens of the session. Never changed, only replaced: a fork begins with the same."""

    resident: int = 0
    """How many, from the first, are in the backend's cells."""
    in_memory: int = 0
    """How many follow these in memory."""
    held: int = 0
    """How many its branch held last: a turn that was cut short leaves it on another way."""

    @classmethod
    def of(cls, count: int) -> Residency:
        """After a job: so many, from the first, are in the backend's cells."""
        return cls(count, 0, count)

    def moved(self, resident: int, in_memory: int) -> Residency:
        """After others needed room: so many of the branch's tokens are in the cells, and so many follow in memory."""
        here = min(resident, self.held)
        return replace(self, resident=here, in_memory=min(resident + in_memory, self.held) - here)

    def within(self, size: int) -> Residency:
        """Of a session that has no more tokens than that."""
        return replace(self, resident=min(self.resident, size))

    def resident_by_segment(self, segments: Sequence[ManifestSegment]) -> tuple[int, ...]:
        """How many tokens of each segment are in the backend's cells."""
        return tuple(_overlap(segment, 0, self.resident) for segment in segments)

    def memory_by_segment(self, segments: Sequence[ManifestSegment]) -> tuple[int, ...]:
        """How many tokens of each segment are in memory."""
        reach = self.resident + self.in_memory
        return tuple(_overlap(segment, self.resident, reach) for segment in segments)


def _overlap(segment: ManifestSegment, start: int, end: int) -> int:
    """How many tokens of the segment stand from `start` to `end`."""
    return max(0, min(end, segment.token_end) - max(start, segment.token_start))
