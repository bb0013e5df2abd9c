"""Which parts of a prefix a question names: an answer about a file is likely to repeat that file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.sessions.suffix import SuffixRequest

MOST = 8
"""Parts that count, at most. A question that names more names none in particular."""
MOST_TEXT = 1 << 14
"""Characters of a question that are looked through, from its end."""
_WORD = re.compile(r"[\w./@+-]+")


def words_of(request: SuffixRequest) -> frozenset[str]:
    """What is asked, as words of which some may be paths."""
    text = request.messages[-1].content if request.messages else request.text or ""
    return frozenset(word.strip(".") for word in _WORD.findall(text[-MOST_TEXT:])) - {""}


def named(segments: Iterable[ManifestSegment], words: frozenset[str]) -> tuple[tuple[int, int], ...]:
    """The token ranges of the segments whose path, or else whose file's name, is one of the words."""
    by_path, by_name = list[tuple[int, int]](), list[tuple[int, int]]()
    for segment in segments if words else ():
        if segment.path in words:
            by_path.append((segment.token_start, segment.token_end))
        elif segment.path.rpartition("/")[2] in words:
            by_name.append((segment.token_start, segment.token_end))
        if len(by_path) + len(by_name) > MOST:
            return ()
    return (*by_path, *by_name)
