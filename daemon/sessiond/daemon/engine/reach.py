"""How a branch gets to its tokens: what stands is walked along, what memory or the disk has is brought back where that pays,
and the rest is computed. A job asks for one step after the other, and looks each time at what stands then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sessiond.adapters.base import KvContext
from sessiond.daemon.engine.arena import Told
from sessiond.daemon.engine.disk_link import DiskLink, Reading
from sessiond.daemon.engine.node import Node
from sessiond.daemon.engine.rates import Rates
from sessiond.daemon.engine.tree import Spot, TokenTree
from sessiond.daemon.engine.work import Compute, Fetch, Receive, Restore, Reuse, Work


def _untold(_done: int, _total: int) -> None:
    """For who does not listen."""


class Reach:
    """Over one tree at a time: whoever gives it another one sets `tree`."""

    def __init__(
        self, tree: TokenTree, context: KvContext, rates: Rates, disk: DiskLink | None, *, cuts: bool
    ) -> None:
        self.tree = tree
        self._rates = rates
        self._disk = disk
        self._cuts = cuts
        """Whether the backend can drop the end of a sequence. Where not, checkpoints must do."""
        self._num_batch = context.settings.num_batch
        self._cell_bytes = context.cell_bytes

    def to(
        self,
        branch: str,
        target: list[int],
        told: Told = _untold,
        stops: frozenset[int] = frozenset(),
        since: Spot | None = None,
    ) -> Work[Reuse]:
        """Bring the branch to the target, taking checkpoints at `stops`; `since` is as in `TokenTree.walk`."""
        at = self.tree.walk(branch, target, since)
        restored = computed = 0
        restore_s = 0.0
        reading = Reading(self._disk, branch, target, self._fetching_pays) if self._disk is not None else None
        told(at, len(target))
        while at < len(target):
            spot = self.tree.spot(branch)
            wish = self._next(branch, at, target, stops, reading)
            began = time.monotonic()
            if isinstance(wish, Compute):
                yield wish
                computed += max(0, self.tree.length(branch) - at)
                at = self.tree.walk(branch, target, spot)
            else:
                yield from self._bring(wish, target)
                before, at = at, self.tree.walk(branch, target, spot)
                restored += max(0, at - before)
                restore_s += time.monotonic() - began
            if at in stops:
                self.tree.mark(branch)
            told(at, len(target))
        # What an older job took meanwhile was computed twice, and counts once.
        computed = min(computed, len(target))
        restored = min(restored, len(target) - computed)
        return Reuse(len(target) - restored - computed, restored, computed, "counted", restore_s * 1e3)

    def stops(self, borders: Sequence[int], end: int) -> frozenset[int]:
        """Where checkpoints are taken: at the borders, at the end, and before the last token, whose logits may be wanted
        again.
        """
        return frozenset() if self._cuts else frozenset({*borders, end - 1, end})

    def _bring(self, wish: Restore | Fetch, target: list[int]) -> Work[None]:
        """Wait for what is brought back."""
        yield wish
        if isinstance(wish, Fetch) and wish.payload is not None:
            receive = Receive(wish.branch, target, wish.found, wish.payload, wish.read_s, wish.waited_s)
            while not receive.tried:
                yield receive

    def _next(
        self, branch: str, at: int, target: list[int], stops: frozenset[int], reading: Reading | None
    ) -> Compute | Restore | Fetch:
        """What brings the branch on from where it stands."""
        if self._restoring_pays(self.tree.ahead(branch, target)):
            return Restore(branch, target)
        found = None if reading is None else reading.next(at)
        if found is not None and reading is not None and found.start <= at:
            return reading.fetch(found)
        stop = {*stops, found.start} if found is not None else stops
        end = min([at + self._num_batch, len(target), *(each for each in stop if each > at)])
        known = 0 if self._cuts else self.tree.known(branch, target)
        return Compute(branch, at, target[at : min(end, at + known) if known else end])

    def _fetching_pays(self, tokens: int, all_of: int) -> bool:
        """Whether `tokens` are back sooner than computed, though `all_of` the entry has to be read."""
        return self._rates.fetching_pays(tokens, all_of * self._cell_bytes)

    def _restoring_pays(self, ahead: Sequence[tuple[Node, int]]) -> bool:
        """Whether these nodes, or the first of them, are brought back sooner than computed. Computing makes memory
        forget them, so all that another branch holds there counts.
        """
        tokens = size = 0
        for node, matched in ahead:
            tokens += len(node.tokens) if node.holders() else matched
            size += len(node.tokens) * self._cell_bytes
            if self._rates.restoring_pays(tokens, size):
                return True
        return False
