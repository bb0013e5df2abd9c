"""A question names files by their paths and names, and what names too many names none."""

from __future__ import annotations

import pytest

from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.sessions.named import MOST, MOST_TEXT, named, words_of
from sessiond.daemon.sessions.suffix import MessageInput, SuffixRequest


def _segment(index: int, path: str) -> ManifestSegment:
    return ManifestSegment(str(index), "file", path, True, "", 0, 0, 10 * index, 10 * index + 10, "", "")


FILES = [
    _segment(index, path) for index, path in enumerate(["", "a/one.py", "b/one.py", "b/two.py", "Makefile"])
]


def _named(text: str) -> tuple[tuple[int, int], ...]:
    return named(FILES, words_of(SuffixRequest(text=text)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Change b/two.py.", ((30, 40),)),
        ("Rewrite `two.py`, please", ((30, 40),)),
        ("What does (one.py) do?", ((10, 20), (20, 30))),
        ("b/one.py, not the other one.py", ((20, 30), (10, 20))),
        ("the Makefile", ((40, 50),)),
        ("twotwo.py and a/b", ()),
        ("", ()),
        ("." * 100, ()),
    ],
)
def test_paths_come_before_names(text: str, found: tuple[tuple[int, int], ...]) -> None:
    assert _named(text) == found


def test_the_last_message_is_what_is_asked() -> None:
    messages = (MessageInput("user", "two.py"), MessageInput("user", "Makefile"))
    assert named(FILES, words_of(SuffixRequest(messages=messages))) == ((40, 50),)


def test_the_end_of_a_long_question_counts() -> None:
    assert _named("two.py " + "x" * MOST_TEXT) == ()
    assert _named("x" * MOST_TEXT + " two.py") == ((30, 40),)


def test_who_names_many_names_none_in_particular() -> None:
    many = [_segment(index, f"{index}/same.py") for index in range(1 << 16)]
    words = words_of(SuffixRequest(text="same.py"))
    assert named(many, words) == ()
    assert len(named(many[:MOST], words)) == MOST
