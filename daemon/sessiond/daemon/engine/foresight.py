"""Gives memory back before the kernel takes it: see `pressure.py` for when and what.

It looks while something runs, and while little is left. In between nobody looks, and nothing wakes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import structlog

from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.engine.pressure import Level, level_at, look_after, may_rest, missing
from sessiond.daemon.engine.process import EngineDied, EngineFailed

log = structlog.get_logger(__name__)

PATIENCE_S = 2.0
"""How long an engine may take to answer. It is asked again at the next look."""


class Foresight:
    """In the daemon's event loop. `tier` is what each engine may keep in memory beside its cells, in bytes."""

    def __init__(self, memory: KvMemory, engines: Callable[[], Iterable[Engine]], tier: int) -> None:
        self._memory = memory
        self._engines = engines
        self._tier = tier
        self.level = Level.EASY
        self._limited: set[Engine] = set()
        """Engines that may keep less than `tier`."""
        self._watch: asyncio.Task[None] | None = None
        memory.on_use = self.stir

    def stir(self) -> None:
        """Something takes memory, or runs. Never waits."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_on(), name="memory foresight")

    async def stop(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def _look_on(self) -> None:
        while True:
            available = await self.look()
            if not self._memory.is_used and may_rest(self.level, available, self._memory.reserve):
                return
            await asyncio.sleep(look_after(self.level, available, self._memory.reserve))

    async def look(self) -> int:
        """Look once, and do what is to be done. The bytes that were left."""
        available, reserve = self._memory.available(), self._memory.reserve
        before, self.level = self.level, level_at(self.level, available, reserve)
        if self.level is not before:
            log.warning("memory.level", level=self.level.name, available=available, reserve=reserve)
        self._memory.is_tight = self.level >= Level.REFUSE
        if self.level >= Level.TRIM:
            await self._trim(missing(available, reserve))
        elif self._limited:
            await self._restore()
        if self.level >= Level.PARK:
            await self._park()
        return available

    async def _trim(self, bytes_: int) -> None:
        """Have engines drop so much of what they keep in memory."""
        for engine in self._engines():
            with contextlib.suppress(EngineDied, EngineFailed, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    kept = (await engine.tally()).memory_tier
                    limit = max(0, kept - bytes_)
                    self._limited.add(engine)  # it may do it too late to be heard
                    await engine.limit_memory(limit)
                    bytes_ -= kept - limit

    async def _restore(self) -> None:
        """Let engines keep as much as ever."""
        limited, self._limited = self._limited, set()
        for engine in limited.intersection(self._engines()):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await engine.limit_memory(self._tier)
            except (EngineDied, EngineFailed, TimeoutError):
                self._limited.add(engine)

    async def _park(self) -> None:
        """Have idle arenas give their cells back, one after the other, until there is enough."""
        reserve = self._memory.reserve
        while level_at(self.level, self._memory.available(), reserve) >= Level.PARK:
            if not await self._memory.give_way():
                return
