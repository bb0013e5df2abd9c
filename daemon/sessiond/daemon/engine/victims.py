"""Who leaves the cells next, and whether memory keeps it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from sessiond.daemon.engine.cells import Cells
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.node import Node

Worth = Callable[[int, int], bool]
"""Whether so many tokens are worth so many bytes: whether restoring them takes less than computing them."""


BESIDE_SHARE = 1 / 64
"""Of the cells that are used: so many more may stay beside them. Attention reads up to the highest cell that is taken,
whoever's it is: 250 of 4,250 cells left behind cost a decode 4% of its speed, and their restore 2 ms, once (SmolLM2,
two cores).
"""


class Victims:
    """Chooses among the leaves of the cells. Branches that are `yielding` can always do without theirs. Without `cuts` the
    backend cannot drop the end of a sequence.
    """

    def __init__(
        self, cells: Cells, tier: MemoryTier, worth: Worth, yielding: Collection[str], *, cuts: bool
    ) -> None:
        self._cells = cells
        self._tier = tier
        self._worth = worth
        self._yielding = yielding
        self._cuts = cuts

    def next(self, root: Node, keep: Collection[str], *, always: bool = False) -> Node | None:
        """The least recently used leaf that nobody holds, and then the least recently used that no branch of `keep` holds
        and that an idle branch can spare; any leaf, in that order, if somebody says `always`.
        """
        leaves = (n for n in root.below() if n.resident and n.is_leaf and n.parent is not None)
        may_go = [n for n in leaves if always or self._may_go(n, keep)]
        return min(may_go, key=lambda n: (bool(n.holders()), n.last_used), default=None)

    def to_shed(self, root: Node, used: Iterable[Node], most: int | None = None) -> Node | None:
        """The least recently used leaf beside the paths to the nodes `used` that memory should keep, if many cells are
        beside them; one that nobody holds first, and of at most `most` tokens, if that is said.
        """
        paths = _paths(used)
        used_cells = sum(len(n.tokens) for n in paths if n.resident)
        if self._cells.used - used_cells <= BESIDE_SHARE * used_cells:
            return None
        beside = (n for n in root.below() if n.resident and n.parent is not None and n not in paths)
        may_go = [
            n for n in beside if n.is_leaf and (most is None or len(n.tokens) <= most) and self.is_kept(n)
        ]
        return min(may_go, key=lambda n: (bool(n.holders()), n.last_used), default=None)

    def is_kept(self, leaf: Node) -> bool:
        """Whether memory takes the leaf, and should: for its own sake, or for that of what it keeps below the leaf."""
        return self._memory_takes(leaf) and (
            bool(leaf.children) or self._worth(len(leaf.tokens), self._size(leaf))
        )

    def _may_go(self, leaf: Node, keep: Collection[str]) -> bool:
        holders = leaf.holders()
        return not holders or (holders.isdisjoint(keep) and self._can_be_spared(leaf, holders))

    def _can_be_spared(self, leaf: Node, holders: Collection[str]) -> bool:
        """Whether idle branches can do without the leaf's cells. What memory takes comes back, or is not worth its bytes:
        then it is sooner computed again, and so is what only such branches hold as always are. Where nothing can be cut,
        memory takes nothing and sequences are few.
        """
        return (
            not self._cuts or self._memory_takes(leaf) or all(branch in self._yielding for branch in holders)
        )

    def _memory_takes(self, leaf: Node) -> bool:
        """Whether the leaf's KV can go to memory: never that of a backend that cannot cut, whose states are no edge's."""
        return self._cuts and self._tier.has_room_for(self._size(leaf))

    def _size(self, leaf: Node) -> int:
        return len(leaf.tokens) * self._cells.context.cell_bytes


def _paths(tips: Iterable[Node]) -> set[Node]:
    """All nodes on the way to the tips."""
    found = set[Node]()
    for tip in tips:
        for node in tip.path():
            if node in found:
                break
            found.add(node)
    return found
