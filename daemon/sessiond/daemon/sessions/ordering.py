"""The order of one workspace's files over time: taken at the first assembly, and looked at again when nobody waits.

A new order is tried first: keep-hot computes the prefixes that it makes, while sessions are still given the old one. They
are given the new one once all of it is there, so that nobody ever waits for an order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from sessiond.daemon.workspace.assemble import file_sizes
from sessiond.daemon.workspace.history import edits_of
from sessiond.daemon.workspace.order import BY_PATH, Order
from sessiond.daemon.workspace.overlay import Overlay
from sessiond.daemon.workspace.saves import Saves

IDLE_S = 30.0
"""So long nothing was saved and nothing ran before the order is looked at again."""
LOOKS_EVERY_S = 0.5
"""How often it is asked whether something still runs."""


class Ordering:
    """See the module. In the daemon's event loop; history and sizes are read elsewhere."""

    def __init__(self, root: Path, overlay: Overlay) -> None:
        self._root = root
        self._overlay = overlay
        self._order: Order | None = None
        self._first = asyncio.Lock()
        self._saves = Saves()
        self.stirred = asyncio.Event()
        """Set when a file was saved that another order might move."""

    @property
    def known(self) -> Order:
        """The order that sessions are given; by path as long as none was taken."""
        return self._order or BY_PATH

    async def order(self) -> Order:
        """The same, taken now if none was.

        A first prefix waits for the history: a quarter of a second beside a prefill that takes many, never more than its
        `PATIENCE`, and nothing where no git repository is. To begin in the order of paths and change to this one would cost
        that prefill twice.

        Raises InvalidInput, PermissionDenied.
        """
        async with self._first:
            if self._order is None:
                self._order, _ = await self._taken()
            return self._order

    def saved(self, paths: Collection[str]) -> None:
        """These files were written, close together; which ones is not known if there are none."""
        self._saves.happened(paths)
        if not paths or any(path in self.known.rates for path in paths):
            self.stirred.set()

    async def better(self, standing: Iterable[str]) -> Order | None:
        """An order that is worth being computed, by what is known now; None if there is none.

        `standing` are the files in the prompt that an order moves. Raises as `order`.
        """
        self.stirred.clear()
        new, sizes = await self._taken()
        moved = {path: sizes[path] for path in standing if path in sizes}
        return new if new.is_worth_it(self.known, moved) else None

    def adopt(self, order: Order) -> None:
        """Give sessions this order from now on."""
        self._order = order

    async def _taken(self) -> tuple[Order, dict[str, int]]:
        """The order by what is known now, and the sizes that it was taken with."""
        edits, sizes = await asyncio.gather(
            asyncio.to_thread(edits_of, self._root), asyncio.to_thread(self._sizes)
        )
        return Order.of(sizes, _together(edits.counted(sizes), self._saves.weights())), sizes

    def _sizes(self) -> dict[str, int]:
        return file_sizes(self._root, self._overlay.wishes())


def _together(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {path: one.get(path, 0.0) + other.get(path, 0.0) for path in one.keys() | other.keys()}
