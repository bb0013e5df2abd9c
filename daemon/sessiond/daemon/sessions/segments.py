"""What segments may be that come from elsewhere: from a client's message, or from a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sessiond.daemon.sessions.prefix import FRAME
from sessiond.daemon.workspace.segment import Segment

MAX_SEGMENTS = 1 << 16
KINDS = frozenset({"instructions", "map", "file", "text"})
"""All but that of the frame, which is made with the prefix."""
MOST_BYTES = {"id": 1 << 13, "path": 1 << 12, "cache_class": 1 << 8, "text": 1 << 25}
"""Bytes of UTF-8. A segment of a workspace has its path in its id."""


def faults(segments: Sequence[Segment], most_id: int = MOST_BYTES["id"]) -> Iterator[tuple[int, str, str]]:
    """Why these cannot stand in a prefix: the index of a segment, its field, and what is wrong with that. An id has at most
    `most_id` bytes.
    """
    most = {**MOST_BYTES, "id": most_id}
    seen: set[str] = set()
    for index, segment in enumerate(segments):
        for field, why in _faults(segment, most, taken=segment.id in seen):
            yield index, field, why
        seen.add(segment.id)


def _faults(segment: Segment, most: dict[str, int], *, taken: bool) -> Iterator[tuple[str, str]]:
    values = {
        "id": segment.id,
        "path": segment.path,
        "cache_class": segment.cache_class,
        "text": segment.text,
    }
    for field, value in values.items():
        if "\0" in value:
            yield field, "has a NUL byte"
        if len(value) > most[field] or len(value.encode()) > most[field]:
            yield field, f"is longer than {most[field]} bytes"
    if not segment.id or taken or segment.id == FRAME:
        yield "id", f'is empty, taken, or the reserved "{FRAME}"'
    if segment.kind not in KINDS:
        yield "kind", f"is none of {', '.join(sorted(KINDS))}"
    if segment.path.startswith("/") or ".." in segment.path.split("/"):
        yield "path", "leaves the workspace"
