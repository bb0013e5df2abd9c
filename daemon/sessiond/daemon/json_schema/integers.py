"""Ranges of whole numbers as grammars."""

from __future__ import annotations

from collections.abc import Iterator

LARGEST = 10**16 - 1
"""No grammar goes beyond: it has as many digits as the integers that schemas do not bound."""


def between(least: int, most: int) -> str:
    """The whole numbers from `least` to `most`, both inclusive; `least` is not above `most`."""
    low, high = max(least, -LARGEST), min(most, LARGEST)
    options: list[str] = []
    if low < 0:
        options += [f'"-" {digits}' for digits in _from_to(max(1, -high), -low)]
    if high >= 0:
        options += _from_to(max(0, low), high)
    return " | ".join(options)


def _from_to(first: int, last: int) -> Iterator[str]:
    """Numbers without a sign, each length by itself."""
    for length in range(len(str(first)), len(str(last)) + 1):
        shortest = 10 ** (length - 1) if length > 1 else 0
        yield from _split(max(first, shortest), min(last, 10**length - 1))


def _split(first: int, last: int) -> Iterator[str]:
    """Numbers of one length, cut where digits do not run through all of their values."""
    for rest in range(len(str(first)) - 1, 0, -1):
        step = 10**rest
        if first // step != last // step:
            if first % step:
                border = (first // step + 1) * step
                yield from _split(first, border - 1)
                yield from _split(border, last)
                return
            if last % step != step - 1:
                border = last // step * step
                yield from _split(first, border - 1)
                yield from _split(border, last)
                return
    yield " ".join(f"[{low}-{high}]" for low, high in zip(str(first), str(last), strict=True))
