"""What a ContextReport comes to: the figures that every form of `explain` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sessiond.client.cli.terminal_text import clean_line

if TYPE_CHECKING:
    from sessiond.v1.context_pb2 import ContextReport, LeftOut, SegmentResidence
    from sessiond.v1.workspace_service_pb2 import GetWorkspaceResponse

_EXAMPLES = 3


class Place(Enum):
    """Where the KV of a token is, nearest first. The value is the word for people."""

    RESIDENT = "resident"
    MEMORY = "memory"
    DISK = "disk"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment, or several in one row."""

    label: str
    places: dict[Place, int]

    @property
    def tokens(self) -> int:
        """All of its tokens."""
        return sum(self.places.values())

    @property
    def is_resident(self) -> bool:
        """Whether all of its tokens are resident."""
        return self.places[Place.RESIDENT] == self.tokens


@dataclass(frozen=True, slots=True)
class LeftOutRow:
    """The files that were left out for one reason, and a few of them by name."""

    reason: str
    files: int
    examples: tuple[str, ...]


def segment_rows(report: ContextReport) -> list[SegmentRow]:
    """The segments in the order of the prefix."""
    return [_row(residence) for residence in report.segments]


def folded(rows: Sequence[SegmentRow], limit: int) -> tuple[list[SegmentRow], list[SegmentRow]]:
    """The rows to show, `limit` at most and in order, and those that are not: what is not resident is shown first, then
    what is big.
    """
    if len(rows) <= limit:
        return list(rows), []
    ranked = sorted(range(len(rows)), key=lambda index: (rows[index].is_resident, -rows[index].tokens))
    shown = set(ranked[:limit])
    return (
        [row for index, row in enumerate(rows) if index in shown],
        [row for index, row in enumerate(rows) if index not in shown],
    )


def together(rows: Sequence[SegmentRow]) -> dict[Place, int]:
    """The tokens of several rows, by place."""
    return {place: sum(row.places[place] for row in rows) for place in Place}


def left_out_rows(left_out: Sequence[LeftOut], examples: int | None = _EXAMPLES) -> list[LeftOutRow]:
    """The files that were left out, by reason, the most frequent first. `examples` None names them all."""
    by_reason: dict[str, list[str]] = {}
    for file in left_out:
        by_reason.setdefault(clean_line(file.reason) or "unknown", []).append(clean_line(file.path))
    ranked = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [LeftOutRow(reason, len(paths), tuple(paths[:examples])) for reason, paths in ranked]


def busy_sentence(report: ContextReport) -> str:
    """What runs now, or ""."""
    if not report.HasField("busy"):
        return ""
    busy = report.busy
    return (
        f"{clean_line(busy.stage)} is running: {busy.done_tokens:,} of {busy.total_tokens:,} tokens "
        f"after {busy.elapsed_ms / 1000:.1f} s"
    )


def edit_cost_sentence(told: ContextReport | GetWorkspaceResponse) -> str:
    """What an edit costs on average in the order of the prefix and in that of the paths, or ""."""
    if not told.HasField("expected_edit_cost"):
        return ""
    cost = told.expected_edit_cost
    return (
        f"about {cost.tokens:,.0f} tokens are computed again for an edit; "
        f"it would be {cost.by_path_tokens:,.0f} with the files in alphabetical order"
    )


def _row(residence: SegmentResidence) -> SegmentRow:
    segment = residence.segment
    return SegmentRow(
        clean_line(segment.path or segment.id or segment.kind),
        {
            Place.RESIDENT: residence.resident_tokens,
            Place.MEMORY: residence.memory_tokens,
            Place.DISK: residence.disk_tokens,
            Place.MISSING: residence.missing_tokens,
        },
    )
