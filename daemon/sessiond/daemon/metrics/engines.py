"""What all engines did together, also those that are no more: totals that never fall."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.process import EngineDied, EngineFailed

PATIENCE_S = 1.0
"""How long an engine may take to answer. One that hangs counts with what it said last."""

_NOTHING = wire.Tallied(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_TOTALS = (
    *("kept_tokens", "dropped_tokens", "forgotten_tokens", "restored_tokens", "fetched_tokens"),
    "computed_tokens",
)
_DISK_TOTALS = (
    *("kv_bytes", "file_bytes", "written", "read", "missed", "damaged", "evicted", "dropped"),
    "set_aside",
)


class EngineTotals:
    """In the daemon's event loop."""

    def __init__(self) -> None:
        self._last: dict[Engine, wire.Tallied] = {}
        self._gone = _NOTHING
        """Totals of the engines that are no more."""
        self._asking = asyncio.Lock()
        """One at a time, or an engine that dies meanwhile might be counted twice."""

    async def ask(self, engines: Iterable[Engine]) -> wire.Tallied:
        """Ask these, which are all that stand, and sum up. What is no total (what waits, what is held) is of them alone."""
        async with self._asking:
            return await self._asked(list(engines))

    async def _asked(self, standing: list[Engine]) -> wire.Tallied:
        for engine, told in zip(standing, await asyncio.gather(*map(_ask, standing)), strict=True):
            if told is not None:
                self._last[engine] = told
        for engine in self._last.keys() - set(standing):
            self._gone = _sum(self._gone, _totals_of(self._last.pop(engine)))
        total = self._gone
        for engine in standing:
            total = _sum(total, self._last.get(engine, _NOTHING))
        return total


async def _ask(engine: Engine) -> wire.Tallied | None:
    with contextlib.suppress(TimeoutError, EngineDied, EngineFailed):
        async with asyncio.timeout(PATIENCE_S):
            return await engine.tally()
    return None


def _totals_of(told: wire.Tallied) -> wire.Tallied:
    """What stays of an engine when it is gone."""
    disk = None
    if told.disk is not None:
        kept = {name: getattr(told.disk, name) for name in _DISK_TOTALS}
        disk = wire.DiskTold(open=0, entries=0, bytes=0, limit=0, waiting_bytes=0, **kept)
    return wire.Tallied(
        0, 0, 0, 0, **{name: getattr(told, name) for name in _TOTALS}, memory_tier=0, disk=disk
    )


def _sum(one: wire.Tallied, other: wire.Tallied) -> wire.Tallied:
    numbers = {
        name: getattr(one, name) + getattr(other, name)
        for name in wire.Tallied.__struct_fields__
        if name != "disk"
    }
    return wire.Tallied(**numbers, disk=_sum_of_disks(one.disk, other.disk))


def _sum_of_disks(one: wire.DiskTold | None, other: wire.DiskTold | None) -> wire.DiskTold | None:
    if one is None or other is None:
        return one or other
    fields = wire.DiskTold.__struct_fields__
    sums = {name: getattr(one, name) + getattr(other, name) for name in fields}
    return wire.DiskTold(**(sums | {"limit": max(one.limit, other.limit)}))  # one budget for all engines
