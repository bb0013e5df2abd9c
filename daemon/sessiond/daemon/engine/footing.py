"""Where a branch may stand: anywhere, if the backend can cut a sequence; else where one ends, or left a checkpoint."""

from __future__ import annotations

from sessiond.daemon.engine.cells import Cells
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.node import Node


class Footing:
    """The checkpoints of one tree. They count in the memory tier, which may drop one on which nobody stands."""

    def __init__(self, cells: Cells, tier: MemoryTier, *, cuts: bool) -> None:
        self._cells = cells
        self._tier = tier
        self._cuts = cuts

    def can_stand(self, node: Node) -> bool:
        """Whether a branch may stand at the node's end, and be extended from there."""
        return self._cuts or node.parent is None or node.checkpoint is not None or self.may_take_over(node)

    def nearest(self, node: Node) -> Node:
        """The node, or the next above it at whose end a branch may stand."""
        while not self.can_stand(node):
            node = node.above
        return node

    def may_take_over(self, tip: Node) -> bool:
        """Whether what comes after `tip` may use the sequence of `tip` itself: nobody else is about to."""
        return tip.sequence is not None and not self._cells.is_promised(tip.sequence)

    def mark(self, tip: Node) -> None:
        """Take a checkpoint at the node's end, where the backend needs one to return there and stands there now."""
        if not self._cuts and tip.checkpoint is None and self.may_take_over(tip):
            assert tip.sequence is not None
            self.keep(tip, self._cells.context.checkpoint(tip.sequence))

    def keep(self, node: Node, checkpoint: bytes) -> None:
        """Give a node a checkpoint that was taken there; the one that it has stays."""
        if node.checkpoint is None:
            node.checkpoint = checkpoint
            self._tier.add(node, len(checkpoint), _forget)


def _forget(node: Node) -> None:
    node.checkpoint = None
