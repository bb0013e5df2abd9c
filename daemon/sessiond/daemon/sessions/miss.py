"""Why an EnsurePrefix could not reuse more: the first token that differs, and what changed it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sessiond.daemon.sessions.difference import EXCERPT, common_start, one_line, parted, printable
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.workspace.segment import Segment

MOST_NAME = 120
"""Characters of a path or id that a message may have."""


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
    """What differs, with a little around it and escapes for control characters; so is `after`."""
    after: str
    cost_tokens: int
    message: str


@dataclass(frozen=True, slots=True)
class _Cost:
    """Where the tokens first differ, how many were computed, and from which one on."""

    index: int
    tokens: int
    begun: int


def explain_miss(old: Prefix, new: Prefix, reused: int, computed: int) -> Miss | None:
    """What the move from `old` to `new`, of which `reused` tokens were warm, broke on. None if nothing did."""
    if computed == 0:
        return None
    begun = len(new.tokens) - computed
    if not old.tokens:
        return _told("first_use", new.segments[0], _Cost(0, computed, begun))
    # The first difference explains the miss, also where an older prefix had some of what stands behind it.
    index = common_start(old.tokens, new.tokens)
    cost = _Cost(index, computed, begun)
    # Where less was warm than is the same, what cost more explains it. Many backends come back to checkpoints or blocks
    # only: a few tokens in front of a change do not mean that room was needed.
    if index == len(new.tokens) or index - reused > len(new.tokens) - index:
        return _evicted(new, _Cost(min(reused, len(new.tokens) - 1), computed, begun))
    was, now = _first_to_differ(old, new)
    old_texts, new_texts = ({s.id: s.text for s in prefix.segments} for prefix in (old, new))
    if old_texts.get(now.id, now.text) != now.text:
        return _changed(old_texts[now.id], now, cost)
    if now.id not in old_texts:
        return _told("inserted", now, cost, after=_opening(now))
    if was is not None and was.id not in new_texts:
        return _told("removed", was, cost, before=_opening(was))
    if was is not None and new_texts[was.id] != was.text:
        # Nothing is left of it, so that the next one stands in its place.
        return _changed(was.text, replace(was, text=new_texts[was.id]), cost)
    return _told("reordered", now, cost)


def _evicted(new: Prefix, cost: _Cost) -> Miss:
    """The same tokens as before, and yet not resident: their room was needed."""
    position, inside = _segment_at(new, cost.index)
    segment = new.segments[position]
    # Tokens do not say where their bytes are; in proportion is near enough for a place that did not change.
    offset = len(segment.text.encode()) * inside // max(1, len(new.runs[position]))
    return _told("evicted", segment, cost, offset)


def _changed(was: str, now: Segment, cost: _Cost) -> Miss:
    before, after = parted(was, now.text)
    offset = len(now.text[: after.start].encode())
    return _told("changed", now, cost, offset, before.around(), after.around())


def _opening(segment: Segment) -> str:
    return printable(segment.text[:EXCERPT], keep="\n\t")


def _first_to_differ(old: Prefix, new: Prefix) -> tuple[Segment | None, Segment]:
    """The first segments with tokens that are not the same in both; None if there was none at that place."""
    olds, news = (
        [(s, run) for s, run in zip(prefix.segments, prefix.runs, strict=True) if run]
        for prefix in (old, new)
    )
    for (was, before), (now, after) in zip(olds, news, strict=False):
        if before != after:
            return was, now
    return None, news[len(olds)][0]


def _segment_at(prefix: Prefix, index: int) -> tuple[int, int]:
    """The segment that holds the token, and the token's place in it."""
    at = 0
    for position, run in enumerate(prefix.runs):
        if index < at + len(run):
            return position, index - at
        at += len(run)
    raise IndexError(index)


def _told(
    cause: str, segment: Segment, cost: _Cost, offset: int = 0, before: str = "", after: str = ""
) -> Miss:
    name = one_line(segment.path or segment.id, MOST_NAME)
    what = {
        "first_use": "nothing of this prefix was computed before",
        "changed": f"{name} changed at byte {offset}",
        "inserted": f"{name} is new here",
        "removed": f"{name} is gone",
        "reordered": f"{name} stands in another place",
        "evicted": f"the room of {name} was needed for something else",
    }[cause]
    message = f"{what}; {cost.tokens} tokens were computed, from token {cost.begun} on"
    return Miss(cost.index, segment.id, segment.path, offset, cause, before, after, cost.tokens, message)
