"""The part of a text around a cursor that fits a window, cut so that typing moves no border but the last.

A text is taken in chunks whose borders depend on what stands before them alone. Each is tokenized by itself, so an edit
at the end of the text leaves the tokens of all chunks but the last as they are. Where the text is too long, it begins at a
chunk that goes on being the beginning while the text grows by a good part of the window.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_CHARACTERS_A_TOKEN = 16
"""Text is looked at up to so many characters for each token of room: what is farther off would hardly ever fit."""
_USUAL_CHARACTERS_A_TOKEN = 4
_LEAST_CHUNK = 64
_MOST_CHUNK = 1024
"""Characters. A tokenizer splits no word across a chunk's border, so there should not be many of them."""
_LINE_END = re.compile(r"\n(?=[^\r\n])")
"""Where the next line has something on it: newlines in a row are often one token."""

Tokenize = Callable[[Sequence[str]], Awaitable[list[list[int]]]]
"""The tokens of each text by itself."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was taken of a text."""

    text: str
    tokens: list[int]


def chunk_characters(room: int) -> int:
    """How long chunks are for a window of so many tokens: a power of two, so that a little more room or less changes nothing."""
    return 1 << (min(_MOST_CHUNK, max(_LEAST_CHUNK, room // 8)).bit_length() - 1)


def chunk_start(text: str, index: int, size: int) -> int | None:
    """Where a chunk begins: after the first line end from a multiple of `size` on, or three quarters of a chunk further if
    there is none so soon. None if the text does not go so far, or as long as more text might say otherwise.
    """
    if index == 0:
        return 0
    nominal = index * size
    latest = nominal + size * 3 // 4
    found = _LINE_END.search(text, nominal, latest)
    if found is not None:
        return found.end()
    return latest if len(text) > latest else None


def _chunk_count(text: str, size: int) -> int:
    last = len(text) // size
    return last + 1 if chunk_start(text, last, size) is not None else last


def _chunks(text: str, first: int, end: int, size: int) -> list[str]:
    """The chunks from `first` to `end`, exclusive; the text's last one ends where the text does."""
    starts = [chunk_start(text, index, size) for index in range(first, end + 1)]
    return [text[start:stop] for start, stop in pairwise(starts)]


async def ending(text: str, room: int, tokenize: Tokenize) -> Window:
    """The end of a text in at most `room` tokens, and about three quarters as many or more if the text is long."""
    size = chunk_characters(room)
    count = _chunk_count(text, size)
    nearest = max(0, count - max(1, MOST_CHARACTERS_A_TOKEN * room // size))
    runs: list[list[int]] = []
    total, first = 0, count
    while first > nearest and total <= room:
        more = max(nearest, first - max(1, _USUAL_CHARACTERS_A_TOKEN * room // size))
        found = await tokenize(_chunks(text, more, first, size))
        runs, first, total = found + runs, more, total + sum(map(len, found))
    chosen = _beginning([len(run) for run in runs], first, room)
    if chosen is None:
        return await _halved(_chunks(text, count - 1, count, size)[0], room, tokenize)
    taken = [token for run in runs[chosen - first :] for token in run]
    return Window(text[chunk_start(text, chosen, size) :], taken)


async def beginning(text: str, room: int, tokenize: Tokenize) -> Window:
    """The beginning of a text in at most `room` tokens: whole lines if there are any. It is one text to the tokenizer: what
    stands there seldom changes, and is computed as one piece if it does.
    """
    if len(text) > _USUAL_CHARACTERS_A_TOKEN * room:
        text = _whole_lines(text[: _USUAL_CHARACTERS_A_TOKEN * room])
    while text:
        [run] = await tokenize([text])
        if len(run) <= room:
            return Window(text, run)
        text = _whole_lines(text[: min(len(text) - 1, len(text) * room // len(run))])
    return Window("", [])


def _whole_lines(text: str) -> str:
    return text[: text.rfind("\n") + 1] or text


def _beginning(sizes: Sequence[int], first: int, room: int) -> int | None:
    """The chunk where a window begins whose last chunk is the text's last; the first of `sizes` is that of the chunk `first`.

    Of those with which at least three quarters of the room are taken, the one whose number is divisible by the highest
    power of two. It stays the same until it no longer fits, or a rounder one comes into view, whatever was there before:
    nothing is remembered from turn to turn, and every session cuts alike.
    """
    if sizes[-1] > room:
        return None
    # The last chunk counts as if it were long already: at every key it has a token more or less, and all others stay.
    tail = max(sizes[-1], min(2 * chunk_characters(room), room // 4))
    chosen = longest = first + len(sizes) - 1
    while longest > first and tail + sizes[longest - first - 1] <= room:
        was_enough = 4 * tail >= 3 * room
        longest -= 1
        tail += sizes[longest - first]
        if not was_enough or _roundness(longest) >= _roundness(chosen):
            chosen = longest
    return 0 if longest == 0 else chosen


def _roundness(index: int) -> int:
    """The highest power of two that divides it."""
    return index & -index


async def _halved(text: str, room: int, tokenize: Tokenize) -> Window:
    """The end of a chunk that does not fit: a window of a few tokens, or characters of many tokens each."""
    while text:
        [run] = await tokenize([text])
        if len(run) <= room:
            return Window(text, run)
        text = text[(len(text) + 1) // 2 :]
    return Window("", [])
