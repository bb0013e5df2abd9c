"""Sets of characters as bytes: exactly the UTF-8 of these characters, each in one way."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from sessiond.adapters.base.grammar.utf8 import LAST, Range, merged, others, sequences

_EDGES = (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000, LAST)


def _ranges(random: Random) -> list[Range]:
    ends = [random.choice((random.choice(_EDGES), random.randint(0, LAST))) for _ in range(4)]
    return [(min(pair), max(pair)) for pair in (ends[:2], ends[2:])]


def _ways(code: int, ranges: list[Range]) -> int:
    """In how many ways the sequences spell a character."""
    spelled = chr(code).encode()
    return sum(
        len(each) == len(spelled)
        and all(low <= byte <= high for byte, (low, high) in zip(spelled, each, strict=True))
        for each in sequences(ranges)
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_character_is_spelled_once_if_it_is_in_the_set_and_never_otherwise(seed: int) -> None:
    random = Random(seed)
    ranges = _ranges(random)
    near = {end + step for pair in ranges for end in pair for step in (-1, 0, 1)}
    for code in {*near, *_EDGES, *(random.randint(0, LAST) for _ in range(50))}:
        if 0 <= code <= LAST and not 0xD800 <= code <= 0xDFFF:
            assert _ways(code, ranges) == any(first <= code <= last for first, last in ranges)


@pytest.mark.parametrize("seed", range(20))
def test_others_are_exactly_the_rest(seed: int) -> None:
    ranges = _ranges(Random(seed))
    both = merged([*ranges, *others(ranges)])
    assert both == [(0, LAST)]
    parts = sorted([*merged(ranges), *others(ranges)])
    assert all(one[1] + 1 == other[0] for one, other in pairwise(parts))


def test_half_characters_are_in_no_set() -> None:
    assert list(sequences([(0xD800, 0xDFFF)])) == []
