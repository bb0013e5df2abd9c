"""The token tree: the one truth about which tokens have KV, and where.

A radix tree of token runs. The KV of a node depends on exactly the tokens from the root to it, so every path is
a prompt that need not be computed again. Each leaf owns one sequence of the backend, which covers the whole
path from the root to the leaf; inner nodes are covered by the sequences of the leaves below them. A split is
therefore bookkeeping only, and two branches share cells without copying.

A branch is what a session holds: its tip is a node, and always at that node's end. What a branch leaves behind
stays, least recently used first to go, until its room or its sequence is needed. Positions never shift.

Tokens are always compared, never trusted to a hash.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import BackendError, KvContext, NoRoom


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens. A leaf has a sequence; an inner node has children."""

    tokens: list[int]
    parent: Node | None
    end: int
    """Position after its last token: how many tokens stand from the root to here."""
    sequence: int | None = None
    children: dict[int, Node] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType] - a class cannot name itself here
    tips: set[str] = field(default_factory=set[str])
    """The branches that end here."""
    last_used: int = 0

    @property
    def is_leaf(self) -> bool:
        """Whether nothing follows."""
        return not self.children


@dataclass(frozen=True, slots=True)
class _Reserved:
    """What `extend` or `borrow` promised: a sequence, and cells for tokens."""

    sequence: int
    count: int


class TokenTree:
    """The tree of one context. All of `context`'s sequences belong to it."""

    def __init__(self, context: KvContext, *, cuts: bool = True) -> None:
        self._context = context
        self._cuts = cuts
        """Whether the backend can drop the end of a sequence. Where not, branches stand at whole leaves only."""
        self._capacity = context.settings.num_ctx
        self._root = Node([], None, 0)
        self._tips: dict[str, Node] = {}
        self._free = list(range(context.max_sequences))[::-1]
        self._reserved: dict[str, _Reserved] = {}
        """What is promised between `extend` and `grow`, by branch."""
        self._used = 0
        self._clock = itertools.count(1)

    # What stands.

    @property
    def used(self) -> int:
        """Tokens that have cells."""
        return self._used

    def open(self, branch: str) -> None:
        """A new branch, at the root."""
        self._move(branch, self._root)

    def close(self, branch: str) -> None:
        """Forget a branch. What it held stays until its room is needed."""
        self._tips.pop(branch).tips.discard(branch)

    def length(self, branch: str) -> int:
        """Tokens that the branch holds."""
        return self._tips[branch].end

    def tokens(self, branch: str) -> list[int]:
        """The tokens that the branch holds."""
        runs = [node.tokens for node in self._path(self._tips[branch])]
        return [token for run in reversed(runs) for token in run]

    def shared(self, branch: str) -> int:
        """Tokens that the branch holds and another one too."""
        for node in self._path(self._tips[branch]):
            if self._held_below(node) - {branch}:
                return node.end
        return 0

    def match(self, tokens: Sequence[int]) -> int:
        """How many of these tokens, from the first, have KV. Changes nothing."""
        node, inside = self._find(tokens)
        return node.end - len(node.tokens) + inside

    # What moves.

    def walk(self, branch: str, tokens: Sequence[int]) -> bool:
        """Move the branch as far along `tokens` as KV reaches; whether it stands elsewhere now."""
        before = self._tips[branch]
        node, inside = self._find(tokens)
        if not self._cuts and (inside < len(node.tokens) or not node.is_leaf):
            node = self._root
            self._move(branch, node)
            self._clear_the_way(tokens)
        elif inside < len(node.tokens):
            node = self._split(node, inside) if inside else self._parent(node)
        self._move(branch, node)
        self._touch(node)
        return node is not before

    def extend(self, branch: str, count: int) -> tuple[int, int]:
        """Make ready to compute `count` tokens after the branch's tip: the sequence and the position.

        Evicts what nobody holds; raises NoRoom if that is not enough. `grow` or `release` must follow.
        """
        tip = self._tips[branch]
        while self._full(count) or not (self._free or self._may_take_over(tip)):
            if (victim := self._victim()) is None:
                raise NoRoom(f"{count} more tokens do not fit: {self._used} of {self._capacity} are held")
            self._remove(victim)
        if self._may_take_over(tip):
            sequence = tip.sequence
            assert sequence is not None
        else:
            sequence = self._sharing(tip, tip.end)
        self._reserved[branch] = _Reserved(sequence, count)
        return sequence, tip.end

    def grow(self, branch: str, tokens: Sequence[int]) -> None:
        """Take note that these tokens were computed where `extend` made ready.

        If another branch computed the same ones meanwhile, its cells are kept, ours are freed, and the branch
        may stand short of the end of `tokens`: look at `length`.
        """
        tip, sequence = self._tips[branch], self._reserved[branch].sequence
        if tokens[0] in tip.children:
            self.release(branch)
            self.walk(branch, [*self.tokens(branch), *tokens])
            return
        del self._reserved[branch]
        if tip.sequence == sequence and tip.tips == {branch} and tip.is_leaf:
            tip.tokens.extend(tokens)
            tip.end += len(tokens)
        else:
            if tip.sequence == sequence:
                tip.sequence = None  # the leaf that was becomes inner: its child takes over
            child = Node(list(tokens), tip, tip.end + len(tokens), sequence)
            tip.children[tokens[0]] = child
            self._move(branch, child)
            self._unseat(tip)
        self._used += len(tokens)
        self._touch(self._tips[branch])

    def release(self, branch: str) -> None:
        """Take back an `extend`: whatever was computed there is dropped."""
        tip, sequence = self._tips[branch], self._reserved.pop(branch).sequence
        if sequence == tip.sequence and tip.is_leaf:
            self._context.truncate(sequence, tip.end)
        elif sequence == tip.sequence:
            self._unseat(tip)
        else:
            self._context.drop(sequence)
            self._free.append(sequence)

    def evict_all(self) -> None:
        """Free everything that no branch holds."""
        while (victim := self._victim()) is not None:
            self._remove(victim)

    def pop(self, branch: str) -> int | None:
        """Drop the last token of a branch if nobody else needs it; that token, or None.

        What nobody holds below the tip goes too where there is no sequence to spare: then it is in the way.
        """
        tip = self._tips[branch]
        while not tip.is_leaf and not self._free and (victim := self._victim(below=tip)) is not None:
            self._remove(victim)
        if tip.sequence is None or tip.tips != {branch}:
            return None
        if not self._context.truncate(tip.sequence, tip.end - 1):
            return None
        token = tip.tokens.pop()
        tip.end -= 1
        self._used -= 1
        if not tip.tokens:
            parent = self._parent(tip)
            self._move(branch, parent)
            self._unlink(tip, token)
        return token

    def borrow(self, branch: str) -> tuple[int, int, int]:
        """A sequence that holds all of the branch but its last token: to compute that one again, on the side.

        The sequence, the position, the token. `release` must follow. Raises NoRoom.
        """
        tip = self._tips[branch]
        if not tip.tokens:
            raise BackendError("an empty branch has no last token")
        while self._full(1) or not self._free:
            if (victim := self._victim()) is None:
                raise NoRoom("no sequence or no cell is left to compute a token again")
            self._remove(victim)
        sequence = self._sharing(tip, tip.end - 1)
        self._reserved[branch] = _Reserved(sequence, 1)
        return sequence, tip.end - 1, tip.tokens[-1]

    def forget(self, branch: str) -> None:
        """Move a branch to the root, and drop what only it held of its last leaf."""
        tip = self._tips[branch]
        self._move(branch, self._root)
        if tip.is_leaf and not tip.tips and tip.parent is not None:
            self._remove(tip)

    # How it is done.

    def _clear_the_way(self, tokens: Sequence[int]) -> None:
        """Drop what nobody holds of the path that begins like `tokens` and cannot be cut where they part."""
        child = self._root.children.get(tokens[0]) if tokens else None
        while child is not None and (victim := self._victim(below=child)) is not None:
            self._remove(victim)
            child = self._root.children.get(tokens[0])

    def _full(self, count: int) -> bool:
        """Whether `count` more tokens do not fit beside those that stand and those that are promised."""
        promised = sum(reserved.count for reserved in self._reserved.values())
        return self._used + promised + count > self._capacity

    def _sharing(self, node: Node, end: int) -> int:
        """A free sequence, made to share the path to `node` below `end`."""
        source, sequence = self._cover(node), self._free[-1]
        if source is not None and end:
            self._context.share(source, sequence, end)
        return self._free.pop()

    def _unseat(self, node: Node) -> None:
        """An inner node needs no sequence: an eviction may have handed it one while a child of it was under way."""
        sequence, node.sequence = node.sequence, None
        if sequence is not None and not self._is_reserved(sequence):
            self._context.drop(sequence)
            self._free.append(sequence)

    def _is_reserved(self, sequence: int) -> bool:
        return any(reserved.sequence == sequence for reserved in self._reserved.values())

    def _find(self, tokens: Sequence[int]) -> tuple[Node, int]:
        """The deepest node that these tokens reach, and how many of its tokens they match."""
        node, inside, at = self._root, 0, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                break
            inside = _common(child.tokens, tokens, at)
            node, at = child, at + inside
            if inside < len(child.tokens):
                return node, inside
        return node, len(node.tokens)

    def _split(self, node: Node, inside: int) -> Node:
        """Cut a node in two; the new upper part. No cell is touched."""
        parent = self._parent(node)
        upper = Node(node.tokens[:inside], parent, node.end - len(node.tokens) + inside)
        upper.last_used = node.last_used
        del node.tokens[:inside]
        node.parent = upper
        upper.children[node.tokens[0]] = node
        parent.children[upper.tokens[0]] = upper
        return upper

    def _may_take_over(self, tip: Node) -> bool:
        """Whether what comes after `tip` may use the sequence of `tip` itself: nobody else is about to."""
        return tip.sequence is not None and not self._is_reserved(tip.sequence)

    def _victim(self, *, below: Node | None = None) -> Node | None:
        """The least recently used leaf that nobody holds."""
        leaves = (n for n in self._nodes(below) if n.is_leaf and not n.tips and self._may_go(n))
        return min(leaves, key=lambda n: n.last_used, default=None)

    def _may_go(self, leaf: Node) -> bool:
        """Not the root; and where nothing can be cut, no leaf whose end would take a held parent with it."""
        parent = leaf.parent
        if parent is None:
            return False
        return self._cuts or parent is self._root or len(parent.children) > 1 or not parent.tips

    def _remove(self, leaf: Node) -> None:
        """Evict a leaf."""
        self._used -= len(leaf.tokens)
        self._unlink(leaf, leaf.tokens[0])

    def _unlink(self, leaf: Node, key: int) -> None:
        """Take a leaf out. Its sequence goes up to a parent that becomes a leaf, or is emptied."""
        parent, sequence = self._parent(leaf), leaf.sequence
        assert sequence is not None
        del parent.children[key]
        if parent.is_leaf and parent.end and self._context.truncate(sequence, parent.end):
            parent.sequence = sequence
            return
        self._context.drop(sequence)
        self._free.append(sequence)
        if parent.is_leaf and parent.end:
            self._lose(parent)

    def _lose(self, node: Node) -> None:
        """The backend cannot cut a sequence: what only that sequence covered is gone too."""
        parent = self._parent(node)
        self._used -= len(node.tokens)
        del parent.children[node.tokens[0]]
        for branch in list(node.tips):
            self._move(branch, self._root)
        if parent.is_leaf and parent.end:
            self._lose(parent)

    def _cover(self, node: Node) -> int | None:
        while not node.is_leaf:
            node = next(iter(node.children.values()))
        return node.sequence

    def _move(self, branch: str, node: Node) -> None:
        old = self._tips.get(branch)
        if old is not None:
            old.tips.discard(branch)
        node.tips.add(branch)
        self._tips[branch] = node

    def _touch(self, node: Node) -> None:
        now = next(self._clock)
        for above in self._path(node):
            above.last_used = now

    def _held_below(self, node: Node) -> set[str]:
        held = set(node.tips)
        for child in node.children.values():
            held |= self._held_below(child)
        return held

    def _path(self, node: Node) -> Iterator[Node]:
        at: Node | None = node
        while at is not None:
            yield at
            at = at.parent

    def _nodes(self, below: Node | None = None) -> Iterator[Node]:
        pending = [below or self._root]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children.values())

    @staticmethod
    def _parent(node: Node) -> Node:
        assert node.parent is not None
        return node.parent

    def check_integrity(self) -> None:
        """Compare the tree with itself and with what the backend reports. Raises AssertionError."""
        sequences: list[int] = []
        used = 0
        for node in self._nodes():
            used += len(node.tokens)
            start = node.parent.end if node.parent else 0
            assert node.end == start + len(node.tokens), "a node's end is not its parent's plus its tokens"
            for key, child in node.children.items():
                assert child.parent is node, "a child that has another parent"
                assert child.tokens and key == child.tokens[0], "a child under a wrong token"
            for branch in node.tips:
                assert self._tips[branch] is node, "a tip that its branch does not know"
            if node.is_leaf and node.parent is not None:
                assert node.sequence is not None, "a leaf without a sequence"
                assert self._context.end(node.sequence) == node.end, "the backend holds another length"
                sequences.append(node.sequence)
            else:
                assert node.sequence is None, "an inner node with a sequence"
        assert not self._reserved, "an extend that nothing followed"
        assert used == self._used <= self._capacity, "the count of used cells is wrong"
        assert len(set(sequences)) == len(sequences), "two leaves with one sequence"
        every = sorted([*sequences, *self._free])
        assert every == list(range(self._context.max_sequences)), "a sequence is lost"
        assert all(self._context.end(sequence) == 0 for sequence in self._free), (
            "a free sequence is not empty"
        )


def _common(run: Sequence[int], tokens: Sequence[int], at: int) -> int:
    """How many tokens of `run` equal those of `tokens` from `at`."""
    limit = min(len(run), len(tokens) - at)
    if run[:limit] == tokens[at : at + limit]:
        return limit
    return next(i for i in range(limit) if run[i] != tokens[at + i])
