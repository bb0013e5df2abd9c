"""The token tree: the one truth about which tokens have KV, and where.

A radix tree of token runs; see `Node` for what stands where. A split is bookkeeping only, and two branches share
cells without copying.

A branch is what a session holds: its tip is a node, and always at that node's end. What a branch leaves behind
stays, least recently used first to go, until its room or its sequence is needed; then it goes to memory, if that is
worth it, and so does what idle branches hold when nothing else is left. Where there is time, both go sooner (`shed`).
Positions never shift.

Where a backend cannot cut a sequence, a branch stands only where one ends, or where a checkpoint was taken; and memory
takes nothing but checkpoints, so that what idle branches give up is computed again.

Tokens are always compared, never trusted to a hash.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Sequence
from typing import TypeAlias

from sessiond.adapters.base import BackendError, KvContext, NoRoom
from sessiond.daemon.engine.cells import Cells, Promise
from sessiond.daemon.engine.footing import Footing
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.node import Node, common
from sessiond.daemon.engine.victims import Victims, Worth

_clock = itertools.count(1)
"""One for all trees, so that their shared memory tier can tell who was used last."""


SHED_TOKENS = 256
"""Tokens that leave the cells in one step of `shed`: some 2 ms, for which whoever asks meanwhile has to wait."""
BULK_TOKENS = 32
"""To be computed, for which others leave the cells. Each of these tokens takes some 0.4 us longer for each cell beside its own
(SmolLM2, two cores); to save a cell's KV and bring it back takes 5 to 14 us, the more where memory is touched for the first
time.
"""

Spot: TypeAlias = tuple[Node, int]
"""A node, and how many tokens stand from the root to where a branch stands there."""


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
        self.root = Node([], None, 0)
        self.tips: dict[str, Node] = {}
        self.keeps: dict[str, int] = {}
        """Of a passing branch, how many tokens from the first outlive it: what it computes beyond is of use to nobody else."""
        self.yielding = set[str]()
        """Branches that can do without cells while they are idle, also where memory takes nothing."""
        self.moves = 0
        """Counts how often KV of a branch may have moved without it."""
        self.growth = 0
        """Counts how often tokens came to stand that did not."""
        self._tier = tier if tier is not None else MemoryTier(1 << 30)
        self._worth = worth or _always
        self._cuts = cuts
        """Whether the backend can drop the end of a sequence. Where not, checkpoints must do."""
        self.enter(context)

    # What stands.

    def open(
        self, branch: str, parent: str | None = None, keeps: int | None = None, *, yields: bool = False
    ) -> None:
        """A new branch, at the root or where another one stands. One that `keeps` so many tokens is passing; one that
        `yields` is computed again where it was lost.
        """
        if keeps is not None:
            self.keeps[branch] = keeps
        if yields:
            self.yielding.add(branch)
        self._move(branch, self.root if parent is None else self.tips[parent])

    def close(self, branch: str) -> None:
        """Forget a branch. What it held stays until its room is needed; of a passing one no more than it keeps."""
        tip, keeps = self.tips.pop(branch), self.keeps.pop(branch, None)
        tip.tips.discard(branch)
        self.yielding.discard(branch)
        while keeps is not None and tip.end > keeps and not tip.tips and not tip.children:
            tip = self._cut_off(tip, keeps)

    def length(self, branch: str) -> int:
        """Tokens that the branch holds."""
        return self.tips[branch].end

    def tokens(self, branch: str) -> list[int]:
        """The tokens that the branch holds."""
        return self.tips[branch].way()

    def spot(self, branch: str) -> Spot:
        """Where the branch stands: equal for two branches that stand in one place."""
        tip = self.tips[branch]
        return tip, tip.end

    def stands(self, branch: str, at: int) -> bool:
        """Whether the branch stands at this position, ready to be extended."""
        tip = self.tips[branch]
        return tip.end == at and tip.resident and self._footing.can_stand(tip)

    def resident(self, branch: str) -> int:
        """Tokens of the branch that are in the backend's cells; the others that it holds are in memory."""
        return next(node.end for node in self.tips[branch].path() if node.resident)

    def match(self, tokens: Sequence[int]) -> int:
        """How many of these tokens, from the first, are in the backend's cells. Changes nothing."""
        node, inside = self._find(tokens)
        return node.end - len(node.tokens) + inside

    def lasting(self, leaf: Node) -> int:
        """How many tokens on the way to a leaf outlive the branches that stand at its end."""
        if not leaf.tips or not leaf.tips <= self.keeps.keys():
            return leaf.end
        held = next((node.end for node in leaf.path() if not node.tips <= self.keeps.keys()), 0)
        return min(leaf.end, max(held, *(self.keeps[branch] for branch in leaf.tips)))

    # What moves.

    def walk(self, branch: str, tokens: Sequence[int], since: Spot | None = None) -> int:
        """Move the branch as far along `tokens` as cells reach and a branch may stand; how far that is.

        `since` is the spot to which an earlier walk along the same tokens led: what agreed then is not compared again.
        """
        known = since if since is not None and self._is_still_at(branch, since) else None
        node, inside = self._find(tokens, known)
        self._touch(node)
        if inside < len(node.tokens):
            node = node.split(inside) if self._cuts else node.above
        return self._move(branch, self._footing.nearest(node))

    def retreat(self, branch: str) -> int:
        """Move the branch one token back, or to the last place before its end where it can stand; how far it is."""
        tip = self.tips[branch]
        if self._cuts and len(tip.tokens) > 1:
            return self._move(branch, tip.split(len(tip.tokens) - 1))
        return self._move(branch, self._footing.nearest(tip.above))

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
        while not self.cells.fits(count) or not (self.cells.free or self._footing.may_take_over(tip)):
            if (victim := self._victims.next(self.root, kept)) is None:
                raise NoRoom(
                    f"{count} more tokens do not fit: {self.cells.used} of {self.cells.capacity} are held"
                )
            self._evict(victim)
        if self.tips[branch] is not tip:
            raise BackendError("the backend could not keep what the branch was to go on from")
        if self._footing.may_take_over(tip):
            if len(tip.tips) > 1:
                self._footing.mark(tip)  # the last moment at which the others can be given a way to go on
            sequence = tip.sequence
            assert sequence is not None
        else:
            sequence = self.cells.share(tip.cover(), tip.end, tip.checkpoint or b"")
        self.cells.promise(branch, Promise(sequence, tip.end, count))
        return sequence, tip.end

    def grow(self, branch: str, tokens: Sequence[int]) -> None:
        """Take note that these tokens were computed where `extend` made ready.

        If another branch computed the same ones meanwhile, its cells are kept, ours are freed, and the branch
        may stand short of the end of `tokens`: look at `length`.
        """
        tip, promise = self.tips[branch], self.cells.promised(branch)
        sequence, child = promise.sequence, tip.children.get(tokens[0])
        if tip.end != promise.position:  # the backend could not keep what it was to go on from
            self.release(branch)
            return
        if child is not None and not child.resident:
            self.discard(child)  # what was kept is of no more use
        elif child is not None:
            self._join(branch, tokens)
            return
        self.cells.fulfil(branch)
        if tip.sequence == sequence and tip.tips == {branch} and not tip.children and tip.checkpoint is None:
            tip.tokens.extend(tokens)
            tip.end += len(tokens)
        else:
            self._move(branch, self._add_child(tip, list(tokens), sequence))
        self.cells.used += len(tokens)
        self.growth += 1
        self._touch(self.tips[branch])

    def computed(self, count: int) -> None:
        """So many tokens were computed, whatever became of them."""
        self._tier.movements.computed += count

    def release(self, branch: str) -> None:
        """Take back an `extend`: whatever was computed there is dropped."""
        tip, sequence = self.tips[branch], self.cells.promised(branch).sequence
        self.cells.fulfil(branch)
        if sequence != tip.sequence:
            self.cells.give_back(sequence)
        elif not tip.is_leaf:
            self._unseat(tip)
        elif not self.cells.context.truncate(sequence, tip.end, tip.checkpoint or b""):
            self._leave(tip)
            self.discard(tip)

    def shorten(self, branch: str, tokens: Sequence[int], came_to: Spot | None = None) -> None:
        """Have the branch stand as far along `tokens` as cells reach, and forget what it computed beyond, up to the spot that it
        came to, which is where it stands if nobody says otherwise: guesses that nobody will come back to. Only where the
        backend can cut.
        """
        tip, _ = came_to or self.spot(branch)  # what is split off it stands above it, so it ends where it did
        self.walk(branch, tokens)
        if tip.parent is None or tip.tips or tip.children or tip.above.children.get(tip.tokens[0]) is not tip:
            return
        self._tier.movements.dropped += len(tip.tokens)
        if tip.resident:
            # Nothing stands below it and nobody stands on it, so nothing moves without its branch.
            self._leave(tip)
            del tip.above.children[tip.tokens[0]]
        else:
            self.discard(tip)  # it has left the cells meanwhile

    def mark(self, branch: str) -> None:
        """Take a checkpoint at the branch's tip, where the backend needs one to return there."""
        self._footing.mark(self.tips[branch])

    # What is in memory.

    def ahead(self, branch: str, tokens: Sequence[int]) -> list[tuple[Node, int]]:
        """The nodes in memory along which `tokens` go on from the branch's tip, and how many tokens of each they match."""
        node, found = self.tips[branch], list[tuple[Node, int]]()
        if not node.resident:
            return found  # it has left the cells meanwhile: a walk comes first
        while node.end < len(tokens) and (child := node.children.get(tokens[node.end])) is not None:
            if child.resident:
                break
            found.append((child, common(child.tokens, tokens, node.end)))
            if found[-1][1] < len(child.tokens):
                break
            node = child
        return found

    def restore(self, branch: str, node: Node, keep: Collection[str] = ()) -> bool:
        """Bring back the first node that `ahead` named. False if that failed: then it is forgotten. Raises NoRoom.

        The branch stays where it is: `walk` takes it on.
        """
        tip = self.tips[branch]
        self._touch(node)
        sequence, start = self.extend(branch, len(node.tokens), keep)
        state = node.kept
        if state is None or not self._tier.holds(node):  # to make room, it was itself dropped
            self.release(branch)
            return False
        try:
            self.cells.context.load(sequence, state, start)
        except BaseException as error:
            self.release(branch)
            if not isinstance(error, BackendError):
                raise
            self.discard(node)
            return False
        self.cells.fulfil(branch)
        if tip.sequence == sequence:
            tip.sequence = None
        self._tier.remove(node)
        node.kept, node.sequence = None, sequence
        self.moves += 1
        self._tier.movements.restored += len(node.tokens)
        self.cells.used += len(node.tokens)
        self._unseat(tip)
        return True

    def receive(
        self, branch: str, tokens: Sequence[int], state: bytes, keep: Collection[str] = (), skip: int = 0
    ) -> bool:
        """Take over KV of `tokens` from elsewhere, behind the branch's tip. It is that of `skip` tokens more, which stand there
        already: the last ones of the branch. False if the backend refuses it. Raises NoRoom.

        As after `grow`, look at `length`.
        """
        sequence, start = self.extend(branch, len(tokens), keep)
        try:
            self.cells.context.load(sequence, state, start, skip)
            whole = self.cells.context.end(sequence) == start + len(tokens)
        except BaseException as error:
            self.release(branch)
            if isinstance(error, BackendError) and not isinstance(error, NoRoom):
                return False
            raise
        if not whole:
            self.release(branch)
            return False
        self._tier.movements.fetched += len(tokens)
        self.grow(branch, tokens)
        return True

    def discard(self, node: Node) -> None:
        """Forget a node that has no cells, and all below it. Branches that stood there stand above it now."""
        self.moves += 1
        del node.above.children[node.tokens[0]]
        stand = self._footing.nearest(node.above)
        for gone in node.below():
            self._tier.remove(gone)
            for branch in list(gone.tips):
                self._move(branch, stand)

    def shed(self) -> bool:
        """Move one leaf, or the end of a long one, to memory, if too many cells are beside the branch used last. False
        if there was none to move.
        """
        front = max(self.tips.values(), key=lambda tip: tip.last_used, default=self.root)
        return self._shed(self._victims.to_shed(self.root, [front]))

    def make_way(self, tokens: int, standing: Collection[str], *, returns: bool = False) -> None:
        """So many tokens are about to be computed for the `standing` branches, and attention reads up to the highest cell that
        is taken. For a few, one short leaf that nobody holds goes: to a long one somebody may come back before there is
        time. For many, all goes that is beside those branches. So it does where one of them `returns` from elsewhere: it would
        come to stand behind what is left in its place, and an answer's every token would read over that.
        """
        if tokens < BULK_TOKENS and not returns:
            self._shed(self._victims.to_shed(self.root, self.tips.values(), SHED_TOKENS))
            return
        used = [self.tips[branch] for branch in standing]
        while self._shed(self._victims.to_shed(self.root, used)):
            pass

    def _shed(self, victim: Node | None) -> bool:
        if victim is None:
            return False
        if (longer := len(victim.tokens) - SHED_TOKENS) > 0:
            victim.split(longer)
        self._evict(victim)
        return True

    def evict_all(self) -> None:
        """Free the cells of everything that no branch holds."""
        while (victim := self._victims.next(self.root, self.tips)) is not None:
            self._evict(victim)

    def forget_memory(self) -> None:
        """Give back what is kept in memory: the tree is not used any more."""
        for node in self.root.below():
            self._tier.remove(node)

    def leave_cells(self) -> None:
        """Free all cells: what is worth it goes to memory. The context may be closed then; `enter` gives a new one."""
        while (victim := self._victims.next(self.root, (), always=True)) is not None:
            self._evict(victim)

    def enter(self, context: KvContext) -> None:
        """Go on in a fresh context, after `leave_cells`."""
        self.cells = Cells(context)
        self._footing = Footing(self.cells, self._tier, cuts=self._cuts)
        self._victims = Victims(self.cells, self._tier, self._worth, self.yielding, cuts=self._cuts)

    # How it is done.

    def _is_still_at(self, branch: str, spot: Spot) -> bool:
        """Whether the branch stands where it stood, or further on. The tokens up to a node's end never change while the
        node is in the tree: it grows at its end, a split leaves it the lower part, and what is cut off has no tips.
        """
        node, end = spot
        return self.tips[branch] is node and node.end >= end and node.resident

    def _find(self, tokens: Sequence[int], start: Spot | None = None) -> tuple[Node, int]:
        """The deepest resident node that these tokens reach, and how many of its tokens they match. They are known to
        agree up to `start`.
        """
        node, at = start or (self.root, 0)
        while True:
            inside = at - (node.end - len(node.tokens))
            matched = common(node.tokens[inside:], tokens, at)
            at += matched
            if inside + matched < len(node.tokens):
                return node, inside + matched
            child = node.children.get(tokens[at]) if at < len(tokens) else None
            if child is None or not child.resident:
                return node, len(node.tokens)
            node = child

    def _evict(self, leaf: Node) -> None:
        """Free a leaf's cells."""
        self.moves += 1
        state, used = self._saved(leaf), self.cells.used
        if self._leave(leaf) and self._tier.has_room_for(len(state)):
            self._tier.movements.kept += used - self.cells.used
            leaf.kept = state
            self._tier.add(leaf, len(state), self.discard)
        else:
            self._tier.movements.dropped += used - self.cells.used
            self.discard(leaf)

    def _cut_off(self, node: Node, keeps: int) -> Node:
        """Forget a node that nobody holds, or its tokens beyond `keeps`; the one above it, or the root if there is no more to
        forget. What can only be had whole stays whole.
        """
        start = node.end - len(node.tokens)
        if start < keeps:
            if not (self._cuts and node.resident):
                return self.root
            node.split(keeps - start)
        above, used, left = node.above, self.cells.used, True
        if node.resident:
            left = self._leave(node)
        if left:
            self.discard(node)
        self._tier.movements.dropped += used - self.cells.used
        return above if left else self.root

    def _saved(self, leaf: Node) -> bytes:
        """The leaf's KV for memory, empty where it is not to be kept or cannot be."""
        assert leaf.sequence is not None
        if self._victims.is_kept(leaf):
            with contextlib.suppress(BackendError):
                return self.cells.context.save(leaf.sequence, leaf.above.end)
        return b""

    def _leave(self, leaf: Node) -> bool:
        """Take a leaf out of the cells. Its sequence goes up to the next node that is a leaf then; False if the backend
        cannot return to the nearest of them: then that one is lost, and what was kept below it.
        """
        sequence, node = leaf.sequence, leaf
        assert sequence is not None
        leaf.sequence = None
        while True:
            self.cells.used -= len(node.tokens)
            node.kept = b""  # no longer resident: its parent may be a leaf now
            above = node.above
            if above.parent is None or not above.is_leaf:
                self.cells.give_back(sequence)
                break
            if self.cells.context.truncate(sequence, above.end, above.checkpoint or b""):
                above.sequence = sequence
                break
            node = above
        if node is leaf:
            return True
        self.discard(node)
        return False

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
        if node.sequence is not None and not self.cells.is_promised(node.sequence):
            self.cells.give_back(node.sequence)
            node.sequence = None

    def _join(self, branch: str, tokens: Sequence[int]) -> None:
        """The branch computed what others did too: it goes on from their cells, and gives its own back."""
        path = [*self.tokens(branch), *tokens]
        checkpoint = self.cells.context.checkpoint(self.cells.promised(branch).sequence)
        self.release(branch)
        node, inside = self._find(path)
        if not self._cuts and node.end - len(node.tokens) + inside == len(path):
            node = node.split(inside) if inside < len(node.tokens) else node
            self._move(branch, node)  # first, so that memory does not drop what the branch stands on
            self._footing.keep(node, checkpoint)
        self.walk(branch, path)

    def _move(self, branch: str, node: Node) -> int:
        """Have the branch stand at the node's end; how far that is."""
        old = self.tips.get(branch)
        if old is not None:
            old.tips.discard(branch)
        node.tips.add(branch)
        self.tips[branch] = node
        return node.end

    def _touch(self, node: Node) -> None:
        now = next(_clock)
        for above in node.path():
            above.last_used = now


def _always(_tokens: int, _size: int) -> bool:
    return True
