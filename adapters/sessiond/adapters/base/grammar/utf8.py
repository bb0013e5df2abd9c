"""Sets of characters as sequences of bytes: tokens end in the middle of characters, so grammars are followed byte by byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

Range: TypeAlias = tuple[int, int]
"""From the first to the last code point, or byte, both inclusive."""

LAST: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)
_LENGTHS: Final = ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, LAST))
"""Code points of one, two, three and four bytes."""


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The same code points in order, each once."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def others(ranges: Sequence[Range]) -> list[Range]:
    """All code points that are not in these ranges."""
    found: list[Range] = []
    start = 0
    for first, last in merged(ranges):
        if start < first:
            found.append((start, first - 1))
        start = last + 1
    if start <= LAST:
        found.append((start, LAST))
    return found


def sequences(ranges: Sequence[Range]) -> Iterator[tuple[Range, ...]]:
    """Sequences of ranges of bytes that together are the UTF-8 of exactly these code points, without surrogates."""
    for first, last in merged(ranges):
        for low, high in _whole(first, last):
            for shortest, longest in _LENGTHS:
                if low <= longest and high >= shortest:
                    yield from _split(max(low, shortest), min(high, longest))


def _whole(first: int, last: int) -> Iterator[Range]:
    """The range without surrogates, which have no UTF-8."""
    below, above = _SURROGATES
    if first < below:
        yield first, min(last, below - 1)
    if last > above:
        yield max(first, above + 1), last


def _split(first: int, last: int) -> Iterator[tuple[Range, ...]]:
    """A range of code points of one length, cut where bytes do not run through all of their values."""
    low, high = chr(first).encode(), chr(last).encode()
    for rest in range(len(low) - 1, 0, -1):
        mask = (1 << 6 * rest) - 1
        if first & ~mask != last & ~mask:
            if first & mask:
                yield from _split(first, first | mask)
                yield from _split((first | mask) + 1, last)
                return
            if last & mask != mask:
                yield from _split(first, (last & ~mask) - 1)
                yield from _split(last & ~mask, last)
                return
    yield tuple(zip(low, high, strict=True))
