"""How much of a growing text fits into a number of tokens, found by counting few of its lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_TOKENS_A_LINE = 8
"""About the least that a line of the map has: where the search begins, so that no text is counted that is many
times too long."""
_PROBES = 4
"""Lengths that are counted at a time."""


def most_that_fit(tokens_of: Callable[[Sequence[int]], list[int]], most: int, max_tokens: int) -> int:
    """A number of lines up to `most` that fit, while one more would not; 0 if none fits.

    `tokens_of` says how many tokens the text has with each of these numbers of lines. A text that is longer may
    have fewer tokens: then the answer may be smaller than it could be, and is never one that was not counted.
    """
    fits, too_many = 0, most + 1
    width = max(1, max_tokens // _TOKENS_A_LINE)
    while too_many - fits > 1:
        reach = min(width, too_many - fits - 1)
        probes = sorted({fits + -(-reach * part // _PROBES) for part in range(1, _PROBES + 1)})
        for probe, tokens in zip(probes, tokens_of(probes), strict=True):
            if tokens > max_tokens:
                too_many = probe
                break
            fits = probe
        else:
            width *= 2
    return fits
