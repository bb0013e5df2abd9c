"""The order in which prompts are computed: no other needs fewer tokens, by trying all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, takewhile

from hypothesis import given
from hypothesis import strategies as st

from sessiond.client.prompts.plan import depth_first

Way = tuple[int, ...]

_WAYS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), max_size=6)
_SIZES = st.lists(st.integers(1, 9), min_size=3, max_size=3)


def _shared(one: Way, other: Way) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _least(ways: Sequence[Way], order: Sequence[int], sizes: Sequence[int]) -> int:
    """Tokens that are computed in this order where nothing stays but the way to the prompt before."""
    computed = 0
    before: Way = ()
    for index in order:
        way = ways[index]
        computed += sum(sizes[step] for step in way[_shared(before, way) :])
        before = way
    return computed


def _within(ways: Sequence[Way], order: Sequence[int], sizes: Sequence[int], cells: int) -> int:
    """The same where so many tokens stay, the least recently used leaf going first; never of the way at hand."""
    used: dict[Way, int] = {}
    computed = 0
    for now, index in enumerate(order):
        nodes = [ways[index][:count] for count in range(1, len(ways[index]) + 1)]
        for node in nodes:
            computed += 0 if node in used else sizes[node[-1]]
            used[node] = now
        while sum(sizes[node[-1]] for node in used) > cells:
            leaves = [node for node in used if not any(_is_above(node, other) for other in used)]
            gone = min((leaf for leaf in leaves if leaf not in nodes), key=used.__getitem__, default=None)
            if gone is None:
                break
            del used[gone]
    return computed


def _is_above(node: Way, other: Way) -> bool:
    return len(other) > len(node) and other[: len(node)] == node


@given(_WAYS, _SIZES)
def test_no_order_computes_fewer_tokens(ways: list[Way], sizes: list[int]) -> None:
    order = depth_first(ways)
    assert sorted(order) == list(range(len(ways)))
    distinct = {way[:count] for way in ways for count in range(1, len(way) + 1)}
    least = _least(ways, order, sizes)
    assert least == sum(sizes[node[-1]] for node in distinct)
    assert least == min(_least(ways, other, sizes) for other in permutations(range(len(ways))))


@given(_WAYS, _SIZES, st.integers(0, 40))
def test_room_for_the_longest_prompt_is_room_enough(ways: list[Way], sizes: list[int], more: int) -> None:
    cells = more + max((sum(sizes[step] for step in way) for way in ways), default=0)
    order = depth_first(ways)
    distinct = {way[:count] for way in ways for count in range(1, len(way) + 1)}
    assert _within(ways, order, sizes, cells) == sum(sizes[node[-1]] for node in distinct)


@given(_WAYS)
def test_whatever_a_prompt_shares_with_those_before_it_shares_with_the_last_of_them(ways: list[Way]) -> None:
    order = depth_first(ways)
    for place, index in enumerate(order[1:], start=1):
        shared = [_shared(ways[other], ways[index]) for other in order[:place]]
        assert shared[-1] == max(shared)


def test_those_that_are_alike_stand_together_and_a_beginning_before_what_it_begins() -> None:
    assert depth_first([(1, 2), (3,), (1,), (1, 2), (3, 1), (1, 0)]) == [2, 0, 3, 5, 1, 4]


def test_many_pieces_need_no_deep_stack() -> None:
    way = tuple(range(20_000))
    assert depth_first([way, way[:10_000], way]) == [1, 0, 2]
