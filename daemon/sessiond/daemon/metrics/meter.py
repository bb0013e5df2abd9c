"""Takes the figures from where they stand."""

from __future__ import annotations

import time
from collections import Counter

from sessiond.daemon.metrics.engines import EngineTotals
from sessiond.daemon.metrics.exposition import expose
from sessiond.daemon.metrics.reading import Reading
from sessiond.daemon.metrics.turns import TurnCounts
from sessiond.daemon.sessions.registry import SessionRegistry


class Meter:
    """Reads them. In the daemon's event loop."""

    def __init__(self, registry: SessionRegistry, version: str) -> None:
        self.turns = TurnCounts()
        self._registry = registry
        self._version = version
        self._engines = EngineTotals()
        self._began = time.monotonic()

    async def read(self) -> Reading:
        """The figures now. Asks the engines, and waits a second at most for one that does not answer."""
        pool, memory = self._registry.pool, self._registry.memory
        engine = await self._engines.ask(pool.loaded())
        return Reading(
            version=self._version,
            uptime_s=time.monotonic() - self._began,
            sessions=Counter(session.state for session in self._registry.all()),
            engines=len(pool.loaded()),
            engines_waiting=pool.waiting(),
            engine=engine,
            cells=sum(record.cells for record in memory.records()),
            cells_bytes=memory.taken,
            cells_free_bytes=memory.free(),
            memory_tier_limit=pool.tiers.memory,
            turns=self.turns,
            background=self._registry.tally,
        )

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """The figures now, as `exposition.expose` writes them."""
        return expose(await self.read(), accept)
