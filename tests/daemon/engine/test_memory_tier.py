"""What memory keeps, and what it drops first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.node import Node


class _Kept:
    """Nodes that memory may keep, and what it dropped."""

    def __init__(self, limit: int) -> None:
        self.tier = MemoryTier(limit)
        self.dropped: list[str] = []
        self.root = Node([], None, 0)

    def node(self, parent: Node | None = None, *, used: int = 0, resident: bool = False) -> Node:
        parent = parent or self.root
        node = Node([len(parent.children)], parent, parent.end + 1)
        parent.children[node.tokens[0]] = node
        node.kept = None if resident else b"kept"
        node.last_used = used
        return node

    def add(self, node: Node, size: int, name: str = "") -> Node:
        self.tier.add(node, size, lambda _node: self.dropped.append(name))
        return node


def test_the_least_recently_used_goes_first() -> None:
    place = _Kept(10)
    for name, used in (("b", 2), ("c", 3), ("a", 1)):
        place.add(place.node(used=used), 3, name)
    assert (place.tier.used, place.dropped) == (9, [])
    place.add(place.node(used=4), 6, "d")
    assert (place.tier.used, place.dropped) == (9, ["a", "b"])


def test_what_is_added_goes_last_however_old_it_is() -> None:
    place = _Kept(10)
    place.add(place.node(used=9), 8, "young")
    old = place.add(place.node(used=1), 8, "old")
    assert place.dropped == ["young"] and place.tier.holds(old)


def test_a_lower_limit_drops_what_is_over_at_once() -> None:
    place = _Kept(10)
    for name, used in (("b", 2), ("c", 3), ("a", 1)):
        place.add(place.node(used=used), 3, name)
    assert not place.tier.limit_to(9)
    assert place.tier.limit_to(5)
    assert (place.tier.used, place.dropped) == (3, ["a", "b"])
    place.add(place.node(used=4), 3, "d")
    assert (place.tier.used, place.dropped) == (3, ["a", "b", "c"])
    assert not place.tier.limit_to(10)
    place.add(place.node(used=5), 6, "e")
    assert place.tier.used == 9


def test_what_is_larger_than_the_tier_finds_no_place() -> None:
    place = _Kept(10)
    large = place.add(place.node(used=9), 11, "large")
    assert place.dropped == ["large"] and not place.tier.holds(large)
    assert not place.tier.has_room_for(11) and place.tier.has_room_for(10)
    assert not MemoryTier(0).has_room_for(1)
    assert not MemoryTier(10).has_room_for(0)


def test_what_stands_below_goes_before_what_it_stands_on() -> None:
    place = _Kept(10)
    above = place.add(place.node(used=1), 4, "above")
    below = place.add(place.node(above, used=5), 4, "below")
    place.add(place.node(used=3), 4, "other")
    assert place.dropped == ["below"] and not place.tier.holds(below)


def test_a_checkpoint_on_which_a_branch_stands_stays() -> None:
    place = _Kept(10)
    stood_on = place.node(used=1, resident=True)
    stood_on.tips.add("branch")
    place.add(stood_on, 8, "stood on")
    place.add(place.node(used=2, resident=True), 8, "other")
    assert place.dropped == ["other"]
    stood_on.tips.clear()
    place.add(place.node(used=2, resident=True), 8, "next")
    assert place.dropped == ["other", "stood on"]


def test_a_branch_that_is_in_memory_keeps_nothing_there() -> None:
    place = _Kept(10)
    idle, new = place.node(used=1), place.node(used=2)
    idle.tips.add("branch")
    new.tips.add("other")
    place.add(idle, 8, "idle")
    place.add(new, 8, "new")
    assert place.dropped == ["idle"]


def test_what_nobody_holds_gives_way_to_what_a_branch_holds() -> None:
    place = _Kept(10)
    held = place.node(used=1)
    held.tips.add("branch")
    place.add(held, 6, "held")
    place.add(place.node(used=2), 3, "left")
    place.add(place.node(used=3), 6, "new")
    assert place.dropped == ["left", "new"]


def test_removed_twice_is_removed_once() -> None:
    place = _Kept(10)
    node = place.add(place.node(), 8)
    for _ in range(2):
        place.tier.remove(node)
    assert place.tier.used == 0 and place.dropped == []


_ADDED = st.tuples(st.integers(0, 6), st.integers(0, 12), st.integers(0, 30), st.booleans())


@given(st.integers(0, 20), st.lists(_ADDED, max_size=30))
def test_the_count_is_that_of_what_was_not_dropped(
    limit: int, added: list[tuple[int, int, int, bool]]
) -> None:
    place = _Kept(limit)
    sizes: dict[str, int] = {}
    nodes = [place.root]
    for index, (parent, size, used, removed) in enumerate(added):
        node = place.node(nodes[parent % len(nodes)], used=used)
        nodes.append(place.add(node, size, str(index)))
        sizes[str(index)] = size
        if removed and str(index) not in place.dropped:
            place.tier.remove(node)
            del sizes[str(index)]
        for name in place.dropped:
            sizes.pop(name, None)
        assert place.tier.used == sum(sizes.values()) <= limit
    assert len(set(place.dropped)) == len(place.dropped)


@pytest.mark.parametrize("limit", [0, 5])
def test_an_entry_of_nothing_takes_nothing(limit: int) -> None:
    place = _Kept(limit)
    assert place.tier.holds(place.add(place.node(), 0))
