"""Tells that something in a workspace has changed: one burst for a save, a formatter's run, a branch switch.

Where the changes come from is `source.py`; here they are put together, and here is what happens when the root
goes away or cannot be watched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sessiond.daemon.workspace.watch.hints import Hints
from sessiond.daemon.workspace.watch.interest import Interest, is_rule_file
from sessiond.daemon.workspace.watch.root import root_identity
from sessiond.daemon.workspace.watch.source import Source, source_for
from sessiond.daemon.workspace.watch.thread import OwnThread

log = structlog.get_logger(__name__)

QUIET_S: Final = 0.075
"""So long without a change ends a burst."""
LONGEST_S: Final = 1.5
"""A burst is told after this time, also while changes still come."""
LOOK_S: Final = 1.0
"""Between two looks at whether the root is there, and the same."""
BLIND_S: Final = 5.0
"""Between two bursts where changes cannot be seen."""
BLIND_BURSTS: Final = 12
"""So many of those, then it is tried again to watch: the walk that finds out may be long."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Changes that came close together."""

    paths: frozenset[str]
    """Relative to the root, separated by "/". Empty where `rescan`.

    What has such a path may be new, changed or gone; where it is or was a folder, that goes for all that is in it.
    """
    rescan: bool
    """Events were lost, or too many to name: anything may have changed."""
    began: float
    """`time.monotonic` when the first change of the burst was noticed."""


def _always(_path: str) -> bool:
    return True


class Watcher:
    """Tells of bursts of changes under one root. Events are hints: whoever hears of one reads the files anew.

    `is_of_interest` says whether the change of a file is worth telling, `is_entered` whether there is anything of
    interest in a folder at all. Both get a path relative to the root, are asked often and from another thread, and what
    `is_entered` answers may change when a burst has named a file with rules, or was a rescan: then it is asked anew.
    What `skip.py` passes over is never told, and files with rules always are.
    """

    def __init__(
        self,
        root: Path,
        *,
        is_of_interest: Callable[[str], bool] = _always,
        is_entered: Callable[[str], bool] = _always,
    ) -> None:
        self._root = root
        self._interest = Interest(is_of_interest, is_entered)
        self._may_look_again = is_entered is not _always
        self._thread: OwnThread | None = None
        self._source: Source | None = None
        self._state = "off"
        self._blind_bursts = 0
        self._looked = 0.0
        self._look_again = False
        self._said = ""

    @property
    def state(self) -> str:
        """ "off", "watching", or "rescanning": the root is not there, or changes in it cannot be seen."""
        return self._state

    async def bursts(self) -> AsyncGenerator[Burst, None]:
        """All bursts from now on. It ends only when it is closed or cancelled; only one may run at a time.

        Each time that watching begins, the first burst is a rescan: what is read after it cannot become old unheard.
        While a burst is dealt with, changes are kept for the next one.
        """
        assert self._thread is None, "one at a time"
        self._thread = OwnThread()
        self._state = "rescanning"
        try:
            while True:
                burst = await self._next()
                rules_may_differ = burst.rescan or any(map(is_rule_file, burst.paths))
                self._look_again = self._may_look_again and rules_may_differ
                yield burst
        finally:
            self._state = "off"
            thread, self._thread = self._thread, None
            try:
                await self._close_source()
            finally:
                await thread.end()

    async def _next(self) -> Burst:
        while True:
            try:
                burst = await (self._begin() if self._source is None else self._listen(self._source))
            except OSError as error:
                burst = await self._go_blind(error)
            if burst is not None:
                return burst
            await self._close_source()

    async def _begin(self) -> Burst:
        """Watches the root as soon as it is there; where that cannot be, waits until it is time for a rescan."""
        if self._blind_bursts > 0:
            self._blind_bursts -= 1
            await asyncio.sleep(BLIND_S)
            if self._blind_bursts > 0 and await self._is_there():
                return _rescan()
        while not await self._is_there():  # noqa: ASYNC110 - a folder that is made somewhere sets no event
            await asyncio.sleep(LOOK_S)
        self._source = source_for(self._root, self._interest, self._own_thread)
        await self._source.open()
        self._state = "watching"
        self._looked = time.monotonic()
        return _rescan()

    async def _listen(self, source: Source) -> Burst | None:
        """The next burst; None when the root is no longer what is watched."""
        hints = Hints()
        if self._look_again:
            self._look_again = False
            hints = await source.look_again()
        while not hints:
            if time.monotonic() - self._looked >= LOOK_S:
                self._looked = time.monotonic()
                if await self._own_thread.run(root_identity, self._root) != source.identity:
                    return None
            hints = await source.wait(LOOK_S)
        began = time.monotonic()
        if not source.settles:
            await _gather(source, hints, until=began + LONGEST_S)
        if hints.gone:
            await self._close_source()
        if hints.lost:
            return _rescan(began)
        return Burst(frozenset(hints.paths), rescan=False, began=began) if hints.paths else None

    async def _go_blind(self, error: OSError) -> Burst | None:
        """From now on changes are not seen: a rescan now and then takes their place. None if just the root is gone."""
        await self._close_source()
        if not await self._is_there():
            return None
        self._blind_bursts = BLIND_BURSTS
        why = error.strerror or str(error)
        if why != self._said:
            log.warning(
                "a workspace cannot be watched: it is read anew at intervals", root=str(self._root), why=why
            )
            self._said = why
        return _rescan()

    async def _close_source(self) -> None:
        source, self._source = self._source, None
        if self._state == "watching":
            self._state = "rescanning"
        if source is not None:
            source.stop()
            await source.close()

    async def _is_there(self) -> bool:
        return await self._own_thread.run(root_identity, self._root) is not None

    @property
    def _own_thread(self) -> OwnThread:
        assert self._thread is not None
        return self._thread


async def _gather(source: Source, hints: Hints, *, until: float) -> None:
    """Adds what comes to `hints`, until it is quiet for a while or the time is over."""
    while not hints.gone and (left := until - time.monotonic()) > 0:
        more = await source.wait(min(QUIET_S, left))
        if not more:
            return
        hints.merge(more)


def _rescan(began: float | None = None) -> Burst:
    return Burst(frozenset(), rescan=True, began=time.monotonic() if began is None else began)
