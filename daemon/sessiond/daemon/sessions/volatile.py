"""What kind of thing changed, where the text says it plainly: a date or time, an id, a counter."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sessiond.daemon.sessions.difference import Part

_AROUND = 40
"""Characters on each side of a difference that are looked at: a whole UUID of which only the last digit changed."""

_MOST = 80
"""Characters of a difference; the longest thing that is known is a SHA-256."""

_CLOCK = (
    r"\d{1,2}:[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?)?(?:\s?[AaPp]\.?[Mm]\b)?(?:\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
)
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_NTH = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = "|".join(
    (
        r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}",
        r"\d{1,2}[-/.]\d{1,2}[-/.]\d{4}",
        r"\d{8}T\d{6}Z?",
        rf"{_MONTH}\s{{1,2}}{_NTH}(?:,?\s\d{{4}})?",
        rf"{_NTH}\.?\s{_MONTH}(?:\s\d{{4}})?",
        r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b",
    )
)
_SINCE_1970 = (
    r"(?:1[5-9]|2[01])\d{8}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?"  # in seconds or parts of them, from 2017 on
)
_TIME = re.compile(
    rf"(?<![\w.:])(?:{_SINCE_1970}|{_CLOCK}|{_DATE})(?:[T,\s]{{1,2}}(?:{_CLOCK}|{_DATE}))*(?![\w:])"
)
_ID = re.compile(
    r"(?<![0-9a-z])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{7,64}|[0-9a-z]{16,64})(?![0-9a-z])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\d.])\d{1,15}(?:,\d{3})*(?:\.\d{1,9})?(?!\d|\.\d)")


@dataclass(frozen=True, slots=True)
class Became:
    """A whole thing that became another of its kind."""

    kind: str
    """"a date or time", "an id" or "a counter"."""
    before: str
    after: str


def recognised(was: Part, now: Part) -> Became | None:
    """What the change is, if it lies in one thing of a known kind. None if it is just text."""
    if max(was.size, now.size) > _MOST:
        return None
    for kind, pattern in (("a date or time", _TIME), ("an id", _ID), ("a counter", _NUMBER)):
        before, after = _holding(pattern, was), _holding(pattern, now)
        if not before or not after or before == after:
            continue
        if (kind == "an id" and not _is_mixed(before + after)) or (
            kind == "a counter" and _value(after) <= _value(before)
        ):
            continue
        return Became(kind, before, after)
    return None


def _holding(pattern: re.Pattern[str], part: Part) -> str:
    """What the pattern finds that holds the whole part, or ""."""
    first = max(0, part.start - _AROUND)
    for found in pattern.finditer(part.text[first : part.end + _AROUND]):
        if first + found.start() <= part.start and part.end <= first + found.end():
            return found.group()
    return ""


def _is_mixed(text: str) -> bool:
    """Words have no digits, and numbers have no letters."""
    return any(char.isdigit() for char in text) and any(char.isalpha() for char in text)


def _value(number: str) -> float:
    return float(number.replace(",", ""))
