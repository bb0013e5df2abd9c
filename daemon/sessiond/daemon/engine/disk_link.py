"""An arena's part of the disk tier: what comes back from it, and what goes there when nobody waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import BackendError
from sessiond.daemon.engine.disk import DiskTier, Found, Run, Space
from sessiond.daemon.engine.disk.keys import LEAST, STEP
from sessiond.daemon.engine.node import Node
from sessiond.daemon.engine.tree import TokenTree
from sessiond.daemon.engine.work import Fetch

Pays = Callable[[int, int], bool]
"""Whether so many tokens are back sooner than computed, though so many have to be read."""

AHEAD_TOKENS = 4 * STEP
"""The largest entry that is read before its turn: it takes memory, and whoever comes meanwhile has to wait for it."""
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

    def way(self, tokens: Sequence[int], at: int, passed: Collection[str], pays: Pays) -> list[Found]:
        """The entries that go on behind `at`, rising, whose restore pays, and that are none of those `passed` over. The first may
        begin before `at`: only the rest of it is of use then. Between them there may be gaps.
        """
        if len(tokens) - at < LEAST:
            return []
        return [
            each
            for each in self.tier.ahead(self.space, tokens, at)
            if each.entry.label.name not in passed and pays(each.gained(at), each.entry.label.count)
        ]

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


class Reading:
    """What the disk has on one job's way to these tokens. While one entry is put into cells, the next one is read, unless
    somebody else waits for the disk.
    """

    def __init__(self, link: DiskLink, branch: str, tokens: Sequence[int], pays: Pays) -> None:
        self._link = link
        self._branch = branch
        self._tokens = tokens
        self._pays = pays
        self._tried = set[str]()
        """Entries that were handed out."""
        self._way: list[Found] = []
        """What was found last."""
        self._ahead: Fetch | None = None

    def next(self, at: int) -> Found | None:
        """The next entry that goes on behind `at` and is back sooner than it is computed."""
        self._way = self._link.way(self._tokens, at, self._tried, self._pays)
        return self._way[0] if self._way else None

    def fetch(self, found: Found) -> Fetch:
        """Have the entry read that `next` named, unless that was begun, and then the one behind it."""
        fetch, self._ahead = self._ahead, None
        if fetch is None or fetch.found.entry.label.name != found.entry.label.name:
            fetch = self._link.fetch(self._branch, found)
        fetch.since = time.monotonic()
        self._tried.add(found.entry.label.name)
        behind = next((each for each in self._way if each.start == found.end), None)
        if behind is not None and behind.entry.label.count <= AHEAD_TOKENS and self._link.tier.reads <= 1:
            self._ahead = self._link.fetch(self._branch, behind)
        return fetch


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
