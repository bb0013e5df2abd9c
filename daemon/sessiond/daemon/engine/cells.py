"""The room of one context: which of its sequences are free, how many cells are taken, and what is promised."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.adapters.base import KvContext


@dataclass(frozen=True, slots=True)
class Promise:
    """A sequence that a branch is about to extend, from which position on, and by how many tokens at most."""

    sequence: int
    position: int
    count: int


class Cells:
    """All of `context`'s sequences, and the count of its cells. What they hold is the tree's to know."""

    def __init__(self, context: KvContext) -> None:
        self.context = context
        self.capacity = context.cells
        self.used = 0
        """Cells that hold a token of the tree."""
        self.free = list(range(context.max_sequences))[::-1]
        self._promised: dict[str, Promise] = {}

    def fits(self, count: int) -> bool:
        """Whether so many more tokens fit beside those that stand and those that are promised."""
        return self.used + sum(p.count for p in self._promised.values()) + count <= self.capacity

    def promise(self, branch: str, promise: Promise) -> None:
        """The branch is about to extend a sequence: `fulfil` must follow."""
        self._promised[branch] = promise

    def promised(self, branch: str) -> Promise:
        """What is promised to the branch."""
        return self._promised[branch]

    def fulfil(self, branch: str) -> None:
        """The promise is kept, or taken back."""
        del self._promised[branch]

    @property
    def promising(self) -> frozenset[str]:
        """The branches that are about to be extended."""
        return frozenset(self._promised)

    def is_promised(self, sequence: int | None) -> bool:
        """Whether some branch is about to extend the sequence, if there is one."""
        return any(promise.sequence == sequence for promise in self._promised.values())

    def share(self, source: int | None, end: int, checkpoint: bytes) -> int:
        """A free sequence, made to share what `source` holds below `end`."""
        sequence = self.free[-1]
        if source is not None and end:
            self.context.share(source, sequence, end, checkpoint)
        return self.free.pop()

    def give_back(self, sequence: int) -> None:
        """Empty a sequence."""
        self.context.drop(sequence)
        self.free.append(sequence)
