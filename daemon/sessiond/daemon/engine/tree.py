"""The token tree: the one truth about which tokens have KV, and where.

A radix tree of token runs; see `Node` for what stands where. A split is bookkeeping only, and two branches share
cells without copying.

A branch is what a session holds: its tip is a node, and always at that node's end. What a branch leaves behind
stays, least recently used first to go, until its room or its sequence is needed; then it goes to memory, if that is
worth it, and so does what idle branches hold when nothing else is left. Positions never shift.

Where a backend cannot cut a sequence, a branch stands only where one ends, or where a checkpoint was taken.

Tokens are always compared, never trusted to a hash.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence

from sessiond.adapters.base import BackendError, KvContext, NoRoom
from sessiond.daemon.engine.cells import Cells
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.node import Node, common

_clock = itertools.count(1)
"""One for all trees, so that their shared memory tier can tell who was used last."""

Worth = Callable[[int, int], bool]
"""Whether so many tokens are worth so many bytes: whether restoring them takes less than computing them."""


class TokenTree:
    """The tree of one context. All of the context's sequences belong to it."""

    def __init__(
        self,
        context: KvContext,
        tier: MemoryTier | None = None,
        worth: Worth | None = None,
        *,
        cuts: bool = True,
    ) -> None:
        self.cells = Cells(context)
        self.root = Node([], None, 0)
        self.tips: dict[str, Node] = {}
        self.moves = 0
        """Counts how often KV of a branch may have moved without it."""
        self._tier = tier if tier is not None else MemoryTier(1 << 30)
        self._worth = worth or (lambda _tokens, _size: True)
        self._cuts = cuts
        """Whether the backend can drop the end of a sequence. Where not, checkpoints must do."""

    # What stands.

    def open(self, branch: str, parent: str | None = None) -> None:
        """A new branch, at the root or where another one stands."""
        self._move(branch, self.root if parent is None else self.tips[parent])

    def close(self, branch: str) -> None:
        """Forget a branch. What it held stays until its room is needed."""
        self.tips.pop(branch).tips.discard(branch)

    def length(self, branch: str) -> int:
        """Tokens that the branch holds."""
        return self.tips[branch].end

    def tokens(self, branch: str) -> list[int]:
        """The tokens that the branch holds."""
        runs = [node.tokens for node in self.tips[branch].path()]
        return [token for run in reversed(runs) for token in run]

    def spot(self, branch: str) -> tuple[Node, int]:
        """Where the branch stands: equal for two branches that stand in one place."""
        tip = self.tips[branch]
        return tip, tip.end

    def stands(self, branch: str, at: int) -> bool:
        """Whether the branch stands at this position, ready to be extended."""
        tip = self.tips[branch]
        return tip.end == at and tip.resident and self._can_stand(tip)

    def resident(self, branch: str) -> int:
        """Tokens of the branch that are in the backend's cells; the others that it holds are in memory."""
        return next(node.end for node in self.tips[branch].path() if node.resident)

    def match(self, tokens: Sequence[int]) -> int:
        """How many of these tokens, from the first, are in the backend's cells. Changes nothing."""
        node, inside = self._find(tokens)
        return node.end - len(node.tokens) + inside

    # What moves.

    def walk(self, branch: str, tokens: Sequence[int]) -> int:
        """Move the branch as far along `tokens` as cells reach and a branch may stand; how far that is."""
        node, inside = self._find(tokens)
        self._touch(node)
        if inside < len(node.tokens):
            node = node.split(inside) if self._cuts else node.above
        while not self._can_stand(node):
            node = node.above
        self._move(branch, node)
        return node.end

    def retreat(self, branch: str) -> int:
        """Move the branch one token back, or to the last place before its end where it can stand; how far it is."""
        tip = self.tips[branch]
        if self._cuts and len(tip.tokens) > 1:
            node = tip.split(len(tip.tokens) - 1)
        else:
            node = tip.above
            while not self._can_stand(node):
                node = node.above
        self._move(branch, node)
        return node.end

    def known(self, branch: str, tokens: Sequence[int]) -> int:
        """How far `tokens` follow cells on from the branch's tip, which stands on their path.

        Where nothing can be cut, a branch may have to compute these again to get there: up to here and no further,
        so that a checkpoint can be taken where the ways part.
        """
        return self.match(tokens) - self.tips[branch].end

    def extend(self, branch: str, count: int, keep: Collection[str] = ()) -> tuple[int, int]:
        """Make ready to compute `count` tokens after the branch's tip: the sequence and the position.

        Takes the room of what nobody holds, and then of idle branches: all but those of `keep`. Raises NoRoom if that
        is not enough. `grow` or `release` must follow.
        """
        tip = self.tips[branch]
        kept = {branch, *keep, *self.cells.promising}
        while not self.cells.fits(count) or not (self.cells.free or self._may_take_over(tip)):
            if (victim := self._victim(kept)) is None:
                raise NoRoom(
                    f"{count} more tokens do not fit: {self.cells.used} of {self.cells.capacity} are held"
                )
            self._evict(victim)
        if self._may_take_over(tip):
            if not self._cuts and len(tip.tips) > 1:
                self._mark(tip)  # the last moment at which the others can be given a way to go on
            sequence = tip.sequence
            assert sequence is not None
        else:
            sequence = self.cells.share(tip.cover(), tip.end, tip.checkpoint or b"")
        self.cells.promise(branch, sequence, count)
        return sequence, tip.end

    def grow(self, branch: str, tokens: Sequence[int]) -> None:
        """Take note that these tokens were computed where `extend` made ready.

        If another branch computed the same ones meanwhile, its cells are kept, ours are freed, and the branch
        may stand short of the end of `tokens`: look at `length`.
        """
        tip, sequence = self.tips[branch], self.cells.promised(branch)
        child = tip.children.get(tokens[0])
        if child is not None and not child.resident:
            self.discard(child)  # what was kept is of no more use
        elif child is not None:
            path = [*self.tokens(branch), *tokens]
            if not self._cuts:
                self._mark_there(path, sequence)
            self.release(branch)
            self.walk(branch, path)
            return
        self.cells.fulfil(branch)
        if tip.sequence == sequence and tip.tips == {branch} and not tip.children and tip.checkpoint is None:
            tip.tokens.extend(tokens)
            tip.end += len(tokens)
        else:
            self._move(branch, self._add_child(tip, list(tokens), sequence))
        self.cells.used += len(tokens)
        self._touch(self.tips[branch])

    def release(self, branch: str) -> None:
        """Take back an `extend`: whatever was computed there is dropped."""
        tip, sequence = self.tips[branch], self.cells.promised(branch)
        self.cells.fulfil(branch)
        if sequence != tip.sequence:
            self.cells.give_back(sequence)
        elif not tip.is_leaf:
            self._unseat(tip)
        elif not self.cells.context.truncate(sequence, tip.end, tip.checkpoint or b""):
            self._remove(tip)

    def mark(self, branch: str) -> None:
        """Take a checkpoint at the branch's tip, where the backend needs one to return there."""
        tip = self.tips[branch]
        if not self._cuts and tip.parent is not None and tip.is_leaf and not self._is_promised(tip):
            self._mark(tip)

    # What is in memory.

    def ahead(self, branch: str, tokens: Sequence[int]) -> tuple[Node, int] | None:
        """The node in memory with which `tokens` go on from the branch's tip, and how many of its tokens they match."""
        tip = self.tips[branch]
        child = tip.children.get(tokens[tip.end]) if tip.end < len(tokens) else None
        if child is None or child.resident:
            return None
        return child, common(child.tokens, tokens, tip.end)

    def restore(self, branch: str, node: Node, keep: Collection[str] = ()) -> bool:
        """Bring back a node that `ahead` named. False if that failed: then it is forgotten. Raises NoRoom.

        The branch stays where it is: `walk` takes it on.
        """
        tip = self.tips[branch]
        self._touch(node)
        sequence, start = self.extend(branch, len(node.tokens), keep)
        state = node.kept
        if node.parent is not tip or state is None:  # to make room, it was itself dropped
            self.release(branch)
            return False
        try:
            self.cells.context.load(sequence, state, start)
        except BackendError:
            self.release(branch)
            self.discard(node)
            return False
        self.cells.fulfil(branch)
        if tip.sequence == sequence:
            tip.sequence = None
        self._tier.remove(node)
        node.kept, node.sequence = None, sequence
        self.moves += 1
        self.cells.used += len(node.tokens)
        self._unseat(tip)
        return True

    def discard(self, node: Node) -> None:
        """Forget a node that has no cells, and all below it. Branches that stood there stand at its parent now."""
        self.moves += 1
        parent = node.above
        for gone in node.below():
            self._tier.remove(gone)
            for branch in list(gone.tips):
                self._move(branch, parent)
        del parent.children[node.tokens[0]]

    def evict_all(self) -> None:
        """Free the cells of everything that no branch holds."""
        while (victim := self._victim(self.tips)) is not None:
            self._evict(victim)

    def forget_memory(self) -> None:
        """Give back what is kept in memory: the tree is not used any more."""
        for node in self.root.below():
            self._tier.remove(node)

    def leave_cells(self) -> None:
        """Free all cells: what is worth it goes to memory. The context may be closed then; `enter` gives a new one."""
        while (victim := self._victim((), always=True)) is not None:
            self._evict(victim)

    def enter(self, context: KvContext) -> None:
        """Go on in a fresh context, after `leave_cells`."""
        assert self.cells.used == 0
        self.cells = Cells(context)

    # How it is done.

    def _find(self, tokens: Sequence[int]) -> tuple[Node, int]:
        """The deepest resident node that these tokens reach, and how many of its tokens they match."""
        node, at = self.root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None or not child.resident:
                break
            inside = common(child.tokens, tokens, at)
            node, at = child, at + inside
            if inside < len(child.tokens):
                return node, inside
        return node, len(node.tokens)

    def _can_stand(self, node: Node) -> bool:
        """Whether a branch may stand at the node's end, and be extended from there."""
        return self._cuts or node.parent is None or node.checkpoint is not None or self._may_take_over(node)

    def _may_take_over(self, tip: Node) -> bool:
        """Whether what comes after `tip` may use the sequence of `tip` itself: nobody else is about to."""
        return tip.sequence is not None and not self._is_promised(tip)

    def _is_promised(self, node: Node) -> bool:
        return node.sequence is not None and self.cells.is_promised(node.sequence)

    def _victim(self, keep: Collection[str], *, always: bool = False) -> Node | None:
        """The leaf of the cells that is to go next: the least recently used that nobody holds, and then the least
        recently used that no branch of `keep` holds and that memory takes.
        """
        leaves = (n for n in self.root.below() if n.resident and n.is_leaf and n.parent is not None)
        may_go = [n for n in leaves if always or self._may_go(n, keep)]
        return min(may_go, key=lambda n: (bool(n.tips), n.last_used), default=None)

    def _may_go(self, leaf: Node, keep: Collection[str]) -> bool:
        if self._is_promised(leaf):
            return False
        if leaf.tips and (not leaf.tips.isdisjoint(keep) or not self._is_kept_when_gone(leaf)):
            return False
        return not any(node.tips for node in self._lost_with(leaf))

    def _lost_with(self, leaf: Node) -> list[Node]:
        """The nodes above that no sequence covers once the leaf is gone, where the backend cannot cut."""
        lost: list[Node] = []
        node = leaf.above
        while not self._cuts and node.parent is not None and node.checkpoint is None:
            if sum(child.resident for child in node.children.values()) > 1:
                break
            lost.append(node)
            node = node.above
        return lost

    def _is_kept_when_gone(self, leaf: Node) -> bool:
        """Whether memory takes the leaf's KV: never the state of a backend that cannot cut, which is no edge's own."""
        size = len(leaf.tokens) * self.cells.context.cell_bytes
        return self._cuts and self._tier.has_room_for(size) and self._worth(len(leaf.tokens), size)

    def _evict(self, leaf: Node) -> None:
        """Free a leaf's cells."""
        self.moves += 1
        if self._is_kept_when_gone(leaf):
            assert leaf.sequence is not None
            state = self.cells.context.save(leaf.sequence, leaf.above.end)
            self._leave(leaf)
            leaf.kept = state
            self._tier.add(leaf, len(state), self.discard)
        else:
            self._remove(leaf)

    def _remove(self, leaf: Node) -> None:
        """Forget a leaf and all that is kept below it."""
        self._leave(leaf)
        self.discard(leaf)

    def _leave(self, leaf: Node) -> None:
        """Take a leaf out of the cells. Its sequence goes up to a parent that becomes a leaf, or is emptied."""
        parent, sequence = leaf.above, leaf.sequence
        assert sequence is not None
        leaf.sequence = None
        self.cells.used -= len(leaf.tokens)
        leaf.kept = b""  # no longer resident: its parent may be a leaf now
        if parent.parent is None or not parent.is_leaf:
            self.cells.give_back(sequence)
        elif self.cells.context.truncate(sequence, parent.end, parent.checkpoint or b""):
            parent.sequence = sequence
        else:
            self.cells.give_back(sequence)
            self._lose(parent)

    def _lose(self, node: Node) -> None:
        """The backend cannot cut a sequence: what only that sequence covered is gone too."""
        self.cells.used -= len(node.tokens)
        node.kept = b""
        parent = node.above
        if parent.parent is not None and parent.is_leaf:
            self._lose(parent)
        else:
            self.discard(node)

    def _add_child(self, tip: Node, tokens: list[int], sequence: int) -> Node:
        """A new leaf below a tip, which needs no sequence any more."""
        if tip.sequence == sequence:
            tip.sequence = None  # the leaf that was becomes inner: its child takes over
        child = Node(tokens, tip, tip.end + len(tokens), sequence)
        tip.children[tokens[0]] = child
        self._unseat(tip)
        return child

    def _unseat(self, node: Node) -> None:
        """An inner node needs no sequence: an eviction may have handed it one while a child of it was under way."""
        if node.sequence is not None and not self._is_promised(node):
            self.cells.give_back(node.sequence)
            node.sequence = None

    def _mark(self, tip: Node) -> None:
        if tip.checkpoint is None:
            assert tip.sequence is not None
            self._set_checkpoint(tip, tip.sequence)

    def _mark_there(self, path: Sequence[int], sequence: int) -> None:
        """`sequence` stands at the end of `path`, which other branches computed too: a branch may stand there now."""
        node, inside = self._find(path)
        if node.end - len(node.tokens) + inside == len(path):
            node = node.split(inside) if inside < len(node.tokens) else node
            if node.checkpoint is None:
                self._set_checkpoint(node, sequence)

    def _set_checkpoint(self, node: Node, sequence: int) -> None:
        node.checkpoint = self.cells.context.checkpoint(sequence)
        self._tier.add(node, len(node.checkpoint), _forget_checkpoint)

    def _move(self, branch: str, node: Node) -> None:
        old = self.tips.get(branch)
        if old is not None:
            old.tips.discard(branch)
        node.tips.add(branch)
        self.tips[branch] = node

    def _touch(self, node: Node) -> None:
        now = next(_clock)
        for above in node.path():
            above.last_used = now


def _forget_checkpoint(node: Node) -> None:
    node.checkpoint = None
