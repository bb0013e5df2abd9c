"""An arena's part of the disk tier: what comes back from it, and what goes there when nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import BackendError
from sessiond.daemon.engine.disk import DiskTier, Found, Run, Space
from sessiond.daemon.engine.disk.keys import LEAST
from sessiond.daemon.engine.node import Node
from sessiond.daemon.engine.tree import TokenTree
from sessiond.daemon.engine.work import Fetch

AGAIN_S = 0.25
"""How soon it is tried again where what was saved has first to be written."""


@dataclass(slots=True)
class DiskLink:
    """In the loop's thread. `wake` has the loop look who may go on; it is called from any thread."""

    tier: DiskTier
    space: Space
    wake: Callable[[], None]
    _in_use: list[Found] = field(default_factory=list[Found])
    """What the backend was given, and has not computed on yet."""

    def nearest(
        self, tokens: Sequence[int], at: int, passed: Collection[str], pays: Callable[[int, int], bool]
    ) -> Found | None:
        """The first entry that goes on behind `at` whose restore pays, given how many tokens it brings and how many it has, and
        that is none of those `passed` over. It may begin before `at`: only the rest of it is of use then.
        """
        if len(tokens) - at < LEAST:
            return None
        found = self.tier.ahead(self.space, tokens, at)
        return next(
            (
                each
                for each in found
                if each.entry.label.name not in passed and pays(each.gained(at), each.entry.label.count)
            ),
            None,
        )

    def fetch(self, branch: str, found: Found) -> Fetch:
        """Have an entry read."""
        fetch = Fetch(branch, found, self.wake)
        self.tier.fetch(found, fetch.arrived)
        return fetch

    # A backend that dies over an entry must not be given it for ever.

    def begin_use(self, found: Found) -> None:
        """The backend is about to be given this."""
        self.tier.begin_use(found)
        self._in_use.append(found)

    def refused(self, found: Found, fault: str) -> None:
        """The backend did not take it: it is set aside, if that was its fault."""
        self._in_use.remove(found)
        self.tier.end_use(found, fault)

    def settle(self, fault: str = "") -> None:
        """The backend has computed since, or failed to."""
        while self._in_use:
            self.tier.end_use(self._in_use.pop(), fault)


@dataclass(frozen=True, slots=True)
class _Piece:
    """KV to be saved: what a node keeps in memory, or a part of what stands in cells on the way to a leaf."""

    node: Node
    run: Run


class WriteBehind:
    """Has the disk keep what a tree has, piece by piece."""

    def __init__(self, tree: TokenTree, link: DiskLink, cell_bytes: int) -> None:
        self._tree = tree
        self._link = link
        self._cell_bytes = cell_bytes
        self._seen: tuple[int, int] | None = None
        """How the tree stood when it was last looked through."""
        self._pieces: Iterator[_Piece] = iter(())
        self._next: _Piece | None = None

    def step(self) -> float | None:
        """Save one piece. In how many seconds to come again; None if all that there is was saved."""
        tier = self._link.tier
        if not tier.is_open:
            return None
        now = (self._tree.growth, self._tree.moves)
        self._next = self._next or next(self._pieces, None)
        if self._next is None and now != self._seen:
            self._seen, self._pieces = now, self._missing()
            self._next = next(self._pieces, None)
        if self._next is None:
            return None
        run = self._next.run
        size = (run.end - run.start) * self._cell_bytes
        if not tier.has_room_for(size):
            if size <= tier.largest:
                return AGAIN_S
            self._next = None  # it could never wait to be written: what is behind it may still
            return 0.0
        payload, self._next = self._payload(self._next), None
        if payload:
            tier.put(run, payload)
        return 0.0

    def _missing(self) -> Iterator[_Piece]:
        """What the disk has not. Asked for bit by bit, since each piece counts as there once it was put."""
        tier, space = self._link.tier, self._link.space
        nodes = [node for node in self._tree.root.below() if node.parent is not None]
        for leaf in sorted((n for n in nodes if n.resident and n.is_leaf), key=lambda n: -n.last_used):
            way = leaf.way()[: self._tree.lasting(leaf)]
            yield from (_Piece(leaf, run) for run in tier.missing(space, way))
        for node in sorted((n for n in nodes if n.kept), key=lambda n: n.end):
            run = tier.edge(space, node.way(), node.end - len(node.tokens))
            if run is not None:
                yield _Piece(node, run)

    def _payload(self, piece: _Piece) -> bytes:
        """Empty where it has gone meanwhile, or cannot be had now."""
        node, run = piece.node, piece.run
        if node.kept:
            return node.kept if (node.end - len(node.tokens), node.end) == (run.start, run.end) else b""
        if node.sequence is None or not node.is_leaf or node.end < run.end:
            return b""
        try:
            return self._tree.cells.context.save(node.sequence, run.start, run.end)
        except BackendError:
            return b""
