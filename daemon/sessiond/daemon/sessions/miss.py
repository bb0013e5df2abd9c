"""Why an EnsurePrefix could not reuse more: the first token that differs, and what changed it."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.workspace.segment import Segment

EXCERPT = 60
"""Characters of text that are shown around a difference."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The contract's LastMiss."""

    token_index: int
    segment_id: str
    path: str
    byte_offset: int
    cause: str
    """"first_use", "changed", "inserted", "removed", "reordered" or "evicted"."""
    before: str
    after: str
    cost_tokens: int
    message: str


def explain_miss(old: Prefix, new: Prefix, reused: int, computed: int) -> Miss | None:
    """What the move from `old` to `new`, of which `reused` tokens were warm, broke on. None if nothing did."""
    if computed == 0:
        return None
    if not old.tokens:
        return _told("first_use", new.segments[0], 0, 0, "", "", computed)
    # The first difference explains the miss, also where an older prefix had some of what stands behind it.
    differs = next((i for i, (a, b) in enumerate(zip(old.tokens, new.tokens, strict=False)) if a != b), None)
    index = min(len(old.tokens), len(new.tokens)) if differs is None else differs
    index = min(index, len(new.tokens) - 1)
    position, inside = _segment_at(new, index)
    segment = new.segments[position]
    if reused < index or old.tokens[: index + 1] == new.tokens[: index + 1]:
        # The same tokens as before, and yet not resident: their room was needed.
        index = min(reused, index)
        position, inside = _segment_at(new, index)
        segment = new.segments[position]
        return _told(
            "evicted", segment, index, _bytes_before(segment, inside, new, position), "", "", computed
        )
    was = next((s for s in old.segments if s.id == segment.id), None)
    at_that_place = old.segments[position] if position < len(old.segments) else None
    if was is not None and was.text != segment.text:
        return _changed(was, segment, index, computed)
    if was is None:
        return _told("inserted", segment, index, 0, "", segment.text[:EXCERPT], computed)
    if at_that_place is not None and all(s.id != at_that_place.id for s in new.segments):
        return _told("removed", at_that_place, index, 0, at_that_place.text[:EXCERPT], "", computed)
    return _told("reordered", segment, index, 0, "", "", computed)


def _changed(was: Segment, now: Segment, index: int, computed: int) -> Miss:
    at = next(
        (i for i, (a, b) in enumerate(zip(was.text, now.text, strict=False)) if a != b),
        min(len(was.text), len(now.text)),
    )
    start = max(0, at - EXCERPT // 4)
    before, after = (text[start : start + EXCERPT] for text in (was.text, now.text))
    return _told("changed", now, index, len(now.text[:at].encode()), before, after, computed)


def _segment_at(prefix: Prefix, index: int) -> tuple[int, int]:
    """The segment that holds the token, and the token's place in it."""
    at = 0
    for position, run in enumerate(prefix.runs):
        if index < at + len(run):
            return position, index - at
        at += len(run)
    raise IndexError(index)


def _bytes_before(segment: Segment, inside: int, prefix: Prefix, position: int) -> int:
    # Tokens do not say where their bytes are; in proportion is near enough for a place that did not change.
    run = prefix.runs[position]
    return len(segment.text.encode()) * inside // max(1, len(run))


def _told(
    cause: str, segment: Segment, index: int, offset: int, before: str, after: str, computed: int
) -> Miss:
    name = segment.path or segment.id
    what = {
        "first_use": "nothing of this prefix was computed before",
        "changed": f"{name} changed at byte {offset}",
        "inserted": f"{name} is new here",
        "removed": f"{name} is gone",
        "reordered": f"{name} stands in another place",
        "evicted": f"the room of {name} was needed for something else",
    }[cause]
    message = f"{what}; {computed} tokens were computed, from token {index} on"
    return Miss(index, segment.id, segment.path, offset, cause, before, after, computed, message)
