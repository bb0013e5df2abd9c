"""What an edit costs on average, as a prefix stands and with its files in the order of their paths."""

from __future__ import annotations

from dataclasses import replace

from sessiond.daemon.sessions.edit_cost import EditCost, expected_edit_cost
from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.workspace.order import BY_PATH, Order

ORDER = Order({"a": 3.0, "b": 1.0, "pinned": 1.0, "AGENTS.md": 0.0})


def _prefix(*named: tuple[str, str]) -> list[ManifestSegment]:
    """Segments of ten bytes and ten tokens each, by their kinds and paths."""
    segments: list[ManifestSegment] = []
    for at, (kind, path) in enumerate(named):
        start, end = 10 * at, 10 * at + 10
        segment_id = f"{kind}:{path}"
        segments.append(ManifestSegment(segment_id, kind, path, True, "", start, end, start, end, "bh", "th"))
    return segments


def test_both_orders_are_told() -> None:
    prefix = _prefix(("frame", ""), ("instructions", "AGENTS.md"), ("map", ""), ("file", "b"), ("file", "a"))
    assert expected_edit_cost(prefix, ORDER, ()) == EditCost((15 + 3 * 5) / 4, (3 * 15 + 5) / 4)


def test_what_is_pinned_stays_in_both() -> None:
    prefix = _prefix(("file", "pinned"), ("file", "b"), ("file", "a"))
    assert expected_edit_cost(prefix, ORDER, {"pinned"}) == EditCost((25 + 15 + 15) / 5, (25 + 5 + 45) / 5)


def test_where_the_files_stand_by_path_both_are_the_same() -> None:
    cost = expected_edit_cost(_prefix(("file", "a"), ("file", "b")), ORDER, ())
    assert cost is not None
    assert cost.tokens == cost.by_path_tokens == (3 * 15 + 5) / 4


def test_nothing_is_told_where_nothing_is_known() -> None:
    assert expected_edit_cost([], ORDER, ()) is None
    [given] = _prefix(("file", "a"))
    assert expected_edit_cost([replace(given, id="mine")], ORDER, ()) is None
    assert expected_edit_cost(_prefix(("file", "a"), ("file", "b")), BY_PATH, ()) is None
