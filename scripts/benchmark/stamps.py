"""When the tokens of an answer came, and how fast that was. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Stamps = Sequence[tuple[float, int]]
"""When tokens of one stream came, in seconds of one clock, and how many."""


def token_ms(stamps: Stamps) -> float:
    """Milliseconds for each token after the first that came; 0 if there was none."""
    after = sum(count for _, count in stamps[1:])
    return (stamps[-1][0] - stamps[0][0]) * 1e3 / after if after else 0.0


def together(streams: Sequence[Stamps]) -> float:
    """Tokens a second of all streams, over the time in which every one of them was decoding: from the first token of
    the last to begin until the last token of the first to end. 0 where there was no such time.
    """
    if not all(streams):
        return 0.0
    start = max(stamps[0][0] for stamps in streams)
    end = min(stamps[-1][0] for stamps in streams)
    if end <= start:
        return 0.0
    return sum(_came(stamps, start, end) for stamps in streams) / (end - start)


def _came(stamps: Stamps, start: float, end: float) -> float:
    """Tokens of one stream between two moments. Of several that were told together each took its part of the time since
    the ones before, so those of a chunk that came just after the start were mostly made before it.
    """
    return sum(
        count * max(0.0, min(at, end) - max(before, start)) / (at - before)
        for (before, _), (at, count) in pairwise(stamps)
        if at > before
    )
