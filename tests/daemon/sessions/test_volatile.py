"""What kind of thing changed is told where it is plain, and not guessed where it is not."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from sessiond.daemon.sessions.difference import parted
from sessiond.daemon.sessions.volatile import recognised

_UUIDS = [str(uuid.UUID(hashlib.sha256(bytes([i])).hexdigest()[:32])) for i in range(2)]
_DIGESTS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(2)]


def _kind(was: str, now: str) -> tuple[str, str, str] | None:
    became = recognised(*parted(f"You are kind. {was} Be brief.", f"You are kind. {now} Be brief."))
    return None if became is None else (became.kind, became.before, became.after)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("10:41:07", "10:41:09"),
        ("9:59", "10:00"),
        ("10:41:07.123456", "10:41:07.200001"),
        ("2026-11-21", "2026-11-22"),
        ("2026-11-21T10:41:07Z", "2026-11-21T10:41:08Z"),
        ("2026-11-21T10:41:07.5+01:00", "2026-11-22T00:00:00.1+01:00"),
        ("2026-11-21 23:59:59", "2026-11-22 00:00:00"),
        ("20261121T104107Z", "20261121T104109Z"),
        ("21/11/2026", "22/11/2026"),
        ("Nov 21, 2026", "Nov 22, 2026"),
        ("21 November 2026", "1 December 2026"),
        ("Sat Nov 21 10:41:07", "Sun Nov 22 00:00:01"),
        ("Sat, 21 Nov 2026 10:41:07 GMT", "Sat, 21 Nov 2026 10:41:08 GMT"),
        ("Saturday", "Sunday"),
        ("10:41 AM", "1:02 PM"),
        ("1763721667", "1763721669"),
        ("1763721667.25", "1763721671.5"),
        ("1763721667123", "1763721667999"),
    ],
)
def test_dates_and_times(was: str, now: str) -> None:
    assert _kind(was, now) == ("a date or time", was, now)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (_UUIDS[0], _UUIDS[1]),
        (f"{_UUIDS[0][:-1]}0", f"{_UUIDS[0][:-1]}1"),
        (_DIGESTS[0], _DIGESTS[1]),
        ("8f3a9c1d", "8f3a9c2d"),
        ("ed421c4", "e4f19b1"),
        ("01XFDUDYJgAACzvnptvVoYEL", "01XFDUDYJgBBCzvnptvVoYEM"),
    ],
)
def test_ids(was: str, now: str) -> None:
    assert _kind(was, now) == ("an id", was, now)
    became = _kind(f"req_{was}", f"req_{now}")
    assert became is not None and became[0] == "an id"


@pytest.mark.parametrize(
    ("was", "now"),
    [("7", "8"), ("9", "10"), ("1", "12"), ("1.5", "2.25"), ("1,999", "2,000"), ("007", "008")],
)
def test_counters(was: str, now: str) -> None:
    assert _kind(was, now) == ("a counter", was, now)
    assert _kind(f"turn-{was} of", f"turn-{now} of") == ("a counter", was, now)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("8", "7"),  # it does not grow
        ("1.2.3", "1.2.4"),  # a version
        ("red", "blue"),
        ("decades", "facades"),
        ("the cat", "a dog at 10:41"),
        ("implementation", "misunderstanding"),
        ("10:41:07 and much was said", "10:41:09 and nothing was"),
        ("x" * 1000, "1" * 1000),
        ("7", ""),
    ],
)
def test_the_rest_is_text(was: str, now: str) -> None:
    assert _kind(was, now) is None


def test_hostile_text_is_looked_at_only_near_the_change() -> None:
    for hostile in ("1" * 200_000, "10:" * 100_000, "Nov 1 " * 50_000, "a1" * 100_000, "1,111" * 50_000):
        recognised(*parted(f"{hostile}7{hostile}", f"{hostile}8{hostile}"))
