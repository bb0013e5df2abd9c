"""A run of tokens in the token tree, and where its KV is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens. Its KV depends on exactly the tokens from the root to its end.

    The KV of a resident node is in the backend's cells; that of another one is kept in memory. A resident node
    stands below resident ones only. One that has no resident child is a leaf of the cells, and owns the sequence
    that covers the whole path from the root to its end.
    """

    tokens: list[int]
    parent: Node | None
    end: int
    """Position after its last token: how many tokens stand from the root to here."""
    sequence: int | None = None
    kept: bytes | None = None
    """Its KV where it has no cells."""
    checkpoint: bytes | None = None
    """What a backend that cannot cut needs to go on from the node's end."""
    children: dict[int, Node] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType] - a class cannot name itself here
    tips: set[str] = field(default_factory=set[str])
    """The branches that end here."""
    last_used: int = 0

    @property
    def resident(self) -> bool:
        """Whether its KV is in the backend's cells."""
        return self.kept is None

    @property
    def is_leaf(self) -> bool:
        """Whether no cells follow."""
        return not any(child.resident for child in self.children.values())

    @property
    def above(self) -> Node:
        """The parent of a node that is not the root."""
        assert self.parent is not None
        return self.parent

    def path(self) -> Iterator[Node]:
        """This node and all above it, up to the root."""
        at: Node | None = self
        while at is not None:
            yield at
            at = at.parent

    def way(self) -> list[int]:
        """All tokens from the root to here."""
        return [token for run in reversed([node.tokens for node in self.path()]) for token in run]

    def below(self) -> Iterator[Node]:
        """This node and all below it."""
        pending: list[Node] = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children.values())

    def holders(self) -> set[str]:
        """The branches that end here or below."""
        return {branch for node in self.below() for branch in node.tips}

    def cover(self) -> int | None:
        """A sequence that covers the path to this resident node; None for an empty root."""
        node = self
        while not node.is_leaf:
            node = next(child for child in node.children.values() if child.resident)
        return node.sequence

    def split(self, inside: int) -> Node:
        """Cut after so many of its tokens; the new upper part. No cell is touched."""
        parent = self.above
        upper = Node(self.tokens[:inside], parent, self.end - len(self.tokens) + inside)
        upper.last_used = self.last_used
        del self.tokens[:inside]
        self.parent = upper
        upper.children[self.tokens[0]] = self
        parent.children[upper.tokens[0]] = upper
        return upper


def common(run: Sequence[int], tokens: Sequence[int], at: int = 0) -> int:
    """How many tokens of `run`, from its first, equal those of `tokens` from `at`."""
    limit = min(len(run), len(tokens) - at)
    if run[:limit] == tokens[at : at + limit]:
        return limit
    return next(i for i in range(limit) if run[i] != tokens[at + i])
