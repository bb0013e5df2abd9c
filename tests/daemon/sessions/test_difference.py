"""Where two texts part, and what is shown of that."""

from __future__ import annotations

import random

import pytest

from sessiond.daemon.sessions.difference import (
    CONTEXT,
    EXCERPT,
    common_end,
    common_start,
    one_line,
    parted,
    printable,
)


def test_what_is_common_is_what_a_loop_finds() -> None:
    rng = random.Random(7)
    for _ in range(500):
        a, b = ("".join(rng.choices("ab", weights=(9, 1), k=rng.randint(0, 20))) for _ in range(2))
        start = common_start(a, b)
        assert a[:start] == b[:start]
        assert start == min(len(a), len(b)) or a[start] != b[start]
        end = common_end(a, b, start)
        assert start + end <= min(len(a), len(b))
        assert a[len(a) - end :] == b[len(b) - end :]
        if start + end < min(len(a), len(b)):
            assert a[len(a) - end - 1] != b[len(b) - end - 1]


@pytest.mark.parametrize(
    ("was", "now", "before", "after"),
    [
        ("It is 10:41:07 now", "It is 10:41:09 now", "7", "9"),
        ("abc", "abXc", "", "X"),
        ("aaaa", "aaaaa", "", "a"),
        ("", "x", "", "x"),
        ("foo(1)\nsame\nx = 1\nend", "foo(2)\nsame\nx = 3\nend", "1", "2"),
        ("one\ntwo", "zero\none\ntwo", "", "zero\n"),
        ("é", "è", "é", "è"),
    ],
)
def test_the_parts_are_no_more_than_what_differs(was: str, now: str, before: str, after: str) -> None:
    parts = parted(was, now)
    assert tuple(part.text[part.start : part.end] for part in parts) == (before, after)
    assert parts[0].around() != parts[1].around()


def test_what_is_shown_has_a_little_around_it() -> None:
    was, now = parted("x" * 50 + " at 10:41:07 " + "y" * 50, "x" * 50 + " at 10:41:09 " + "y" * 50)
    assert was.around() == "x" * 5 + " at 10:41:07 " + "y" * 15
    assert (was.words(), now.words()) == ("10:41:07", "10:41:09")


def test_what_is_shown_of_a_huge_difference_is_small() -> None:
    for part in parted("A" * 1_000_000, "\x1b" * 1_000_000):
        assert len(part.around()) <= len("\\x1b") * (EXCERPT + 2 * CONTEXT)
        assert len(part.words()) <= len("\\x1b") * EXCERPT + 1
        assert part.around().isprintable() and part.words().isprintable()


def test_what_would_be_obeyed_is_escaped() -> None:
    assert printable("a\x1b[2J\r\n\u202e\u2028é 😒") == "a\\x1b[2J\\r\\n\\u202e\\u2028é 😒"
    assert printable("a\n\t\x00", keep="\n\t") == "a\n\t\\x00"


def test_one_line_says_that_it_was_cut() -> None:
    assert (one_line("abcd", 4), one_line("abcde", 4), one_line("a\nb", 4)) == ("abcd", "abc…", "a\\nb")
