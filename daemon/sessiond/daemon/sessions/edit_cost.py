"""What an edit of a workspace costs on average, in the order in which its files stand and in that of their paths."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.workspace.order import Order, expected_cost


@dataclass(frozen=True, slots=True)
class EditCost:
    """Tokens that are computed again for one edit, on average, if files are edited as often as is expected."""

    tokens: float
    """As the prefix stands."""
    by_path_tokens: float
    """If its files stood in the order of their paths; what is pinned, or no file, stays where it is."""


def expected_edit_cost(
    segments: Sequence[ManifestSegment], order: Order, pinned: Collection[str]
) -> EditCost | None:
    """Of a prefix; None if it is no workspace's, or nothing is known of its edits."""
    # What a client gave has ids of its own.
    if not any(each.path and each.id == f"{each.kind}:{each.path}" for each in segments):
        return None
    moved = [each for each in segments if each.kind == "file" and each.path not in pinned]
    by_path = iter(sorted(moved, key=lambda each: each.path.encode()))
    places = {each.id for each in moved}
    alphabetical = [next(by_path) if each.id in places else each for each in segments]
    costs = EditCost(_cost(segments, order), _cost(alphabetical, order))
    return costs if costs.tokens else None


def _cost(segments: Sequence[ManifestSegment], order: Order) -> float:
    """A frame and a map are nobody's to edit."""
    return expected_cost(
        [each.token_end - each.token_start for each in segments],
        [order.weight(each.path, each.byte_end - each.byte_start) if each.path else 0.0 for each in segments],
    )
