"""Text of an answer: whole characters, and nothing of a stop text, however the bytes are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond.daemon.engine.text import TextAssembler


def _naive(data: bytes, stops: Sequence[str]) -> tuple[str, str | None]:
    """The text up to the stop text that is complete first, and that stop text; of two that end together the
    longer one.
    """
    text = data.decode("utf-8", "replace")
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end - len(stop)], stop
    return text, None


def _assembled(pieces: Sequence[bytes], stops: Sequence[str]) -> tuple[list[str], str | None]:
    assembler = TextAssembler(stops)
    told: list[str] = []
    for piece in pieces:
        told.append(assembler.feed(piece))
        if assembler.stopped_by is not None:
            break
    told.append(assembler.finish())
    return told, assembler.stopped_by


_LETTERS = st.text("ab€😒\n", max_size=12)


@st.composite
def _cut(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes in pieces, empty ones too."""
    whole = draw(data)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]


_TEXTS = st.one_of(_LETTERS.map(str.encode), st.binary(max_size=10), st.text(max_size=8).map(str.encode))


@given(_cut(_TEXTS), st.lists(st.text("ab€😒\n", max_size=4), max_size=1))
def test_one_stop_text_and_any_cut(pieces: list[bytes], stops: list[str]) -> None:
    told, stopped = _assembled(pieces, stops)
    assert ("".join(told), stopped) == _naive(b"".join(pieces), stops)


@given(_cut(_TEXTS), st.lists(st.text("ab€😒\n", max_size=4), max_size=3))
@example([b"aba"], ["aba", "b"])
@example([b"ab", b"a"], ["aba", "b"])
def test_several_stop_texts_and_any_cut(pieces: list[bytes], stops: list[str]) -> None:
    told, stopped = _assembled(pieces, stops)
    assert ("".join(told), stopped) == _naive(b"".join(pieces), stops)


@given(_TEXTS, st.lists(st.text("ab€\n", min_size=1, max_size=4), max_size=3))
def test_the_cut_does_not_matter(data: bytes, stops: list[str]) -> None:
    whole, stopped = _assembled([data], stops)
    singly, singly_stopped = _assembled([data[i : i + 1] for i in range(len(data))], stops)
    assert ("".join(whole), stopped) == ("".join(singly), singly_stopped)


@given(_cut(_LETTERS.map(str.encode)))
def test_no_character_comes_in_parts_and_none_is_held_back_without_a_stop(pieces: list[bytes]) -> None:
    assembler = TextAssembler([])
    so_far, told = b"", ""
    for piece in pieces:
        so_far += piece
        told += assembler.feed(piece)
        assert "\ufffd" not in told
        assert told == so_far.decode("utf-8", "ignore")
    assert assembler.finish() == ""


@given(_cut(_LETTERS.map(str.encode)), st.text("ab", min_size=1, max_size=4))
def test_what_is_held_back_may_still_become_the_stop_text(pieces: list[bytes], stop: str) -> None:
    assembler = TextAssembler([stop])
    so_far, told = b"", ""
    for piece in pieces:
        so_far += piece
        told += assembler.feed(piece)
        if assembler.stopped_by is not None:
            return
        held = so_far.decode("utf-8", "ignore")[len(told) :]
        assert held == "" or stop.startswith(held)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"\xff"], "\ufffd"),
        ([b"a\xc3"], "a\ufffd"),
        ([b"\xf0\x9f", b"a"], "\ufffda"),
        ([b"\xf0\x9f\x98", b"\x92"], "😒"),
    ],
)
def test_bytes_that_are_no_character(pieces: list[bytes], text: str) -> None:
    told, _ = _assembled(pieces, [])
    assert "".join(told) == text


def test_a_stop_text_may_end_in_the_last_bytes() -> None:
    assert _assembled([b"ab\xc3"], ["\ufffd"]) == (["ab", ""], "\ufffd")
