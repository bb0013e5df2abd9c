"""Windows of long texts: they fit, and typing moves no border but the last."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.daemon.engine.scripted import load

from sessiond.daemon.sessions.window import Window, beginning, chunk_characters, chunk_start, ending

_MODEL = load("scripted-kv:")
_LINE = "    value = name[{index}]  # of the {index}th line\n"
TEXTS = st.text(st.sampled_from("ab \n\r\té€😒"), max_size=400)


async def _tokenize(texts: Sequence[str]) -> list[list[int]]:
    return [_MODEL.tokenize(text, parse_special=False) for text in texts]


def _back(window: Window) -> str:
    return b"".join(_MODEL.pieces(window.tokens)).decode()


def _starts(text: str, size: int) -> list[int]:
    found = [chunk_start(text, index, size) for index in range(len(text) // size + 2)]
    return [start for start in found if start is not None]


@given(TEXTS, TEXTS, st.sampled_from([16, 32]))
def test_what_comes_behind_a_border_never_moves_it(text: str, more: str, size: int) -> None:
    starts = _starts(text, size)
    assert _starts(text + more, size)[: len(starts)] == starts
    assert starts == sorted(set(starts)), "a chunk is empty"


@given(TEXTS, st.integers(4, 300))
async def test_a_window_fits_and_holds_the_end_or_the_beginning(text: str, room: int) -> None:
    for window, there in (
        (await ending(text, room, _tokenize), str.endswith),
        (await beginning(text, room, _tokenize), str.startswith),
    ):
        assert len(window.tokens) <= room
        assert there(text, window.text)
        assert _back(window) == window.text


@pytest.mark.parametrize("room", [200, 1000, 5000])
async def test_of_a_long_text_a_good_part_of_the_room_is_used(room: int) -> None:
    text = "".join(_LINE.format(index=index) for index in range(2000))
    for size in range(room, len(text), 1777):
        window = await ending(text[:size], room, _tokenize)
        assert 2 * len(window.tokens) >= room or window.text == text[:size]
        whole_lines = len(window.text) == size or window.text.startswith("    value")
        assert whole_lines or chunk_characters(room) < 2 * len(_LINE)
        after = await beginning(text[size:], room, _tokenize)
        assert 4 * len(after.tokens) >= 3 * room or after.text == text[size:]


async def test_while_a_text_is_typed_its_window_seldom_begins_anew() -> None:
    room = 400
    text = "".join(_LINE.format(index=index) for index in range(60))
    typed = "".join(_LINE.format(index=index) for index in range(60, 200))
    begins: list[int] = []
    for count in range(len(typed)):
        whole = text + typed[:count]
        window = await ending(whole, room, _tokenize)
        begins.append(len(whole) - len(window.text))
    assert begins == sorted(begins), "the beginning went back"
    moves = len(set(begins)) - 1
    tokens = len(_MODEL.tokenize(typed, parse_special=False))
    assert 0 < moves <= 8 * tokens / room, f"{moves} moves for {tokens} tokens"


async def test_a_text_of_which_little_fits_is_not_read_whole() -> None:
    seen = 0

    async def counting(texts: Sequence[str]) -> list[list[int]]:
        nonlocal seen
        seen += sum(map(len, texts))
        return await _tokenize(texts)

    text = "x = 1\n" * (1 << 20)
    assert (await ending(text, 100, counting)).tokens
    assert (await beginning(text, 100, counting)).tokens
    assert seen <= 2 * 16 * 100 + 2 * chunk_characters(100)


async def test_characters_of_many_tokens_each() -> None:
    """Each is four tokens here, and a chunk is more than fits."""
    text = "".join(random.Random(1).choices("𐍈𐎀𐏃", k=500))
    window = await ending(text, 8, _tokenize)
    assert window.tokens and text.endswith(window.text)
    window = await beginning(text, 8, _tokenize)
    assert window.tokens and text.startswith(window.text)
