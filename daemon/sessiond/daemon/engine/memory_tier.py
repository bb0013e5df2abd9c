"""The host-memory tier: KV of nodes that left the cells, within a limit. What no branch holds goes first, and
of that the least recently used.

One tier serves all trees of an engine. What it drops is a miss, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessiond.daemon.engine.movements import Movements
from sessiond.daemon.engine.node import Node


@dataclass(frozen=True, slots=True)
class _Entry:
    size: int
    drop: Callable[[Node], None]
    """Makes the node's tree forget what is kept."""


class MemoryTier:
    """Who keeps how many bytes. The bytes themselves stand in the nodes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: dict[Node, _Entry] = {}
        self.used = 0
        """Bytes."""
        self.movements = Movements()
        """Of all trees that share it."""

    def has_room_for(self, size: int) -> bool:
        """Whether so much could be kept at all, be it in place of all else."""
        return 0 < size <= self.limit

    def add(self, node: Node, size: int, drop: Callable[[Node], None]) -> None:
        """Take note of what a node keeps; others give way before it, unless they alone are held."""
        self._entries[node] = _Entry(size, drop)
        self.used += size
        self._shrink(node)

    def limit_to(self, limit: int) -> bool:
        """Keep no more than so many bytes from now on. Whether something was dropped for it."""
        before, self.limit = self.used, limit
        self._shrink()
        return self.used < before

    def _shrink(self, newest: Node | None = None) -> None:
        while self.used > self.limit and (droppable := self._droppable()):
            oldest = min(droppable, key=lambda n: (bool(n.holders()), n is newest, n.last_used, -n.end))
            entry = self._entries[oldest]
            self.remove(oldest)
            self.movements.forgotten += len(oldest.tokens)
            entry.drop(oldest)

    def remove(self, node: Node) -> None:
        """The node keeps nothing any more. Twice is once."""
        entry = self._entries.pop(node, None)
        if entry is not None:
            self.used -= entry.size

    def holds(self, node: Node) -> bool:
        """Whether the node keeps something."""
        return node in self._entries

    def _droppable(self) -> list[Node]:
        # What stands below a kept node is of no use without it, so it goes first. A checkpoint on which a branch stands
        # stays, whatever the limit: without it the branch could not go on.
        return [n for n in self._entries if not (n.tips if n.resident else self._is_needed_below(n))]

    def _is_needed_below(self, node: Node) -> bool:
        return any(child in self._entries for child in node.children.values())
