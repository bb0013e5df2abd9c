"""Which parts of a prefix a question names: an answer about a file is likely to repeat that file. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.sessions.suffix import SuffixRequest

MOST = 8
"""Parts that count, at most. A question that names more names none in particular."""
_MOST_TEXT = 1 << 16
"""Characters of a question that are looked through, from its end."""


def named(segments: Iterable[ManifestSegment], request: SuffixRequest) -> tuple[tuple[int, int], ...]:
    """The token ranges of the segments whose path, or else whose file's name, stands in what is asked."""
    text = _asked(request)[-_MOST_TEXT:]
    if not text:
        return ()
    with_paths = [segment for segment in segments if segment.path]
    found = [segment for segment in with_paths if segment.path in text]
    found += [segment for segment in with_paths if segment not in found and _name(segment) in text]
    ranges = [(segment.token_start, segment.token_end) for segment in found]
    return tuple(ranges) if len(ranges) <= MOST else ()


def _asked(request: SuffixRequest) -> str:
    if request.messages:
        return request.messages[-1].content
    return request.text or ""


def _name(segment: ManifestSegment) -> str:
    return segment.path.rpartition("/")[2]
