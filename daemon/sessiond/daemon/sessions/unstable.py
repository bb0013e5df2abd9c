"""Prefixes that cannot be reused because one place in them changes at every turn: a clock, a counter, a request id.

One miss looks like any edit. What tells them apart: the same place breaks the prefix again and again, while most of
what stands behind it, and has to be computed again for it, is the text that stood there before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import structlog

from sessiond.daemon.sessions.difference import common_end, one_line, parted
from sessiond.daemon.sessions.miss import MOST_NAME, Miss
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.sessions.volatile import Became, recognised

log = structlog.get_logger(__name__)

WINDOW = 4
"""Changes of the prefix that are remembered."""

OFTEN = 3
"""So many of them at one place are no accident."""

NEAR = 32
"""Bytes apart that are still one place: of a date and time, now the second changes, now the day."""


@dataclass(slots=True)
class _Break:
    """One time that a place broke the prefix."""

    segment_id: str
    offset: int
    became: Became
    cost_tokens: int
    """Of this time and, as far as they are remembered, those before."""
    warned_tokens: int = 0
    """What the cost was when the log was told last; 0 if it never was."""

    def is_where(self, other: _Break) -> bool:
        """Whether both are at one place."""
        return self.segment_id == other.segment_id and abs(self.offset - other.offset) <= NEAR


class Instability:
    """What one session remembers of the changes of its prefix."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._recent: deque[_Break | None] = deque(maxlen=WINDOW)
        """The last changes, oldest first; None for one that explains itself."""

    def heard(self, miss: Miss | None, old: Prefix, new: Prefix) -> Miss | None:
        """The miss of the move from `old` to `new`. If its place keeps breaking the prefix, its message says so, and so
        does the log.
        """
        if not old.tokens or old.tokens == new.tokens:
            return miss
        broke = None if miss is None else _break(miss, old, new)
        self._recent.append(broke)
        if miss is None or broke is None:
            return miss
        here = [other for other in self._recent if other is not None and broke.is_where(other)]
        if len(here) > 1:
            broke.cost_tokens += here[-2].cost_tokens
            broke.warned_tokens = here[-2].warned_tokens
        if len(here) < OFTEN:
            return miss
        alike = sum(other.became.kind == broke.became.kind for other in here)
        kind = broke.became.kind if alike >= OFTEN else ""
        # One line for each doubling of the cost: nobody may notice the first, and nobody wants one a turn.
        if broke.cost_tokens >= 2 * broke.warned_tokens:
            broke.warned_tokens = broke.cost_tokens
            self._warn(miss, broke, kind)
        often = f"{len(here)} of the last {len(self._recent)} turns"
        return replace(miss, message=f"{miss.message}; {_sentence(broke, kind, often)}")

    def _warn(self, miss: Miss, broke: _Break, kind: str) -> None:
        log.warning(
            "prefix.unstable",
            session=self._session,
            segment=one_line(miss.path or miss.segment_id, MOST_NAME),
            offset=miss.byte_offset,
            kind=kind or "text",
            before=broke.became.before,
            after=broke.became.after,
            cost_tokens=broke.cost_tokens,
        )


def _sentence(broke: _Break, kind: str, often: str) -> str:
    place = f"this place, {kind}," if kind else "this place"
    return (
        f'{place} changed in {often} ("{broke.became.before}" became "{broke.became.after}"), '
        f"which has cost {broke.cost_tokens} tokens: keep it out of the prefix, or put it last"
    )


def _break(miss: Miss, old: Prefix, new: Prefix) -> _Break | None:
    """The miss as a break that may come again; None if it looks like an edit."""
    if miss.cause != "changed":
        return None
    was, now = (next(s.text for s in prefix.segments if s.id == miss.segment_id) for prefix in (old, new))
    before, after = parted(was, now)
    became = recognised(before, after)
    if became is None:
        if not before.size or not after.size:
            return None  # text that only grows or shrinks is being written
        became = Became("", before.words(), after.words())
    if not _is_mostly_as_before(miss.segment_id, after.start, old, new):
        return None
    return _Break(miss.segment_id, miss.byte_offset, became, miss.cost_tokens)


def _is_mostly_as_before(segment_id: str, start: int, old: Prefix, new: Prefix) -> bool:
    """Whether most of the text from that character of that segment on was in the old prefix.

    A segment further back counts as a whole: several files that change at once are an edit.
    """
    texts = {segment.id: segment.text for segment in old.segments}
    position = next(i for i, segment in enumerate(new.segments) if segment.id == segment_id)
    same = _same_behind(texts[segment_id], new.segments[position].text, start)
    whole = len(new.segments[position].text) - start
    for segment in new.segments[position + 1 :]:
        whole += len(segment.text)
        if texts.get(segment.id) == segment.text:
            same += len(segment.text)
    return 2 * same > whole


def _same_behind(was: str, now: str, start: int) -> int:
    """Characters of the lines of `now` from `start` on that are also in `was`."""
    end = common_end(was, now, start)
    lines = set(was[start : len(was) - end].splitlines(keepends=True))
    changed = now[start : len(now) - end].splitlines(keepends=True)
    return end + sum(len(line) for line in changed if line in lines)
