"""Memory as a budget: what the cells of all workspaces may take together, and who gives way when it is used up.

The limit is what the machine has free at the moment, less a reserve for everybody else; a setting may make it tighter.
The arena on which nothing happened for longest gives its cells back first; one on which a turn runs never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import structlog

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.machine import available_memory, total_memory
from sessiond.v1.errors import SessionUnavailable

log = structlog.get_logger(__name__)

LEAST_RESERVE = 512 << 20
"""Bytes that are left to the rest of the machine at least."""
PARK_S = 5.0
"""How long an engine may take to give cells back. One that hangs must not keep memory from being looked for elsewhere."""
RESERVE_SHARE = 0.1
"""Of all memory, what is left to the rest of the machine."""


@dataclass(eq=False, slots=True)
class Background:
    """Work for which nobody waits: it holds no cells against anybody."""

    must_stop: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class ArenaRecord:
    """One arena, as the daemon keeps account of it."""

    engine: Engine
    name: str
    root: str = ""
    """Of its workspace."""
    needs: int = 0
    """Bytes of its cells when it has some."""
    taken: int = 0
    """Bytes of its cells now."""
    cells: int = 0
    settings: ContextSettings | None = None
    """With nothing left open."""
    turns: int = 0
    """Turns that run on it."""
    rests: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever the last of them ends."""
    background: set[Background] = field(default_factory=set["Background"])
    """What runs on it while nobody waits for it."""
    used: float = field(default_factory=time.monotonic)


class KvMemory:
    """All arenas of the daemon. `most` is a limit in bytes for all of them together; 0 is none."""

    def __init__(self, most: int = 0, available: Callable[[], int] = available_memory) -> None:
        self.most = most
        self.reserve = max(LEAST_RESERVE, int(total_memory() * RESERVE_SHARE))
        self.available = available
        """Bytes that could be taken now without pressing anybody else out."""
        self.on_use: Callable[[], None] = lambda: None
        """Hears when memory is taken, or something begins to run."""
        self._arenas: dict[tuple[Engine, str], ArenaRecord] = {}
        self.is_tight = False
        """Whether the machine has so little left that nothing new is taken."""
        self.opening = asyncio.Lock()
        """Held while a branch is opened that may make an arena: the next one must see what that took."""

    @property
    def taken(self) -> int:
        """Bytes that all cells take now."""
        return sum(record.taken for record in self._arenas.values())

    def free(self) -> int:
        """Bytes that more cells may take now."""
        free = max(0, self.available() - self.reserve)
        return min(free, max(0, self.most - self.taken)) if self.most else free

    def room_for_new(self) -> int:
        """Bytes that a new arena may take now."""
        return 0 if self.is_tight else self.free()

    def opened(self, engine: Engine, name: str, root: str, opened: wire.Opened) -> None:
        """A branch was opened for a workspace. Its arena counts from now on, not only once it tells of itself."""
        if (engine, name) not in self._arenas:
            cells = opened.settings.num_cells if opened.cell_bytes else 0
            self.heard(engine, wire.ArenaState(wire.UNASKED, name, cells, cells * opened.cell_bytes))
        self._arenas[engine, name].root = root
        self._arenas[engine, name].settings = opened.settings
        self.on_use()

    def settings(self, engine: Engine, name: str) -> ContextSettings | None:
        """What an arena was made with on this engine; None if it has none of that name. The next engine may have room for
        fewer cells, or more.
        """
        record = self._arenas.get((engine, name))
        return None if record is None else record.settings

    @property
    def is_used(self) -> bool:
        """Whether something runs on an arena."""
        return any(record.turns or record.background for record in self._arenas.values())

    async def at_rest(self, engine: Engine, name: str, most_s: float) -> None:
        """Wait until no turn runs on an arena, so many seconds at most."""
        record = self._arenas.get((engine, name))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while record is not None and record.turns:
                    record.rests.clear()
                    await record.rests.wait()

    def records(self) -> list[ArenaRecord]:
        """Every arena."""
        return list(self._arenas.values())

    def heard(self, engine: Engine, state: wire.ArenaState) -> None:
        """An arena took cells or gave them back."""
        if state.gone:
            self._arenas.pop((engine, state.arena), None)
            return
        record = self._arenas.setdefault((engine, state.arena), ArenaRecord(engine, state.arena))
        record.needs = state.kv_bytes or record.needs
        # Cells that were given back before a turn began there are taken again by it.
        record.taken = state.kv_bytes or (record.needs if record.turns else 0)
        record.cells = state.cells
        log.info(
            "arena.cells",
            arena=state.arena,
            cells=state.cells,
            kv_bytes=state.kv_bytes,
            free_bytes=self.free(),
        )

    def lost(self, engine: Engine) -> None:
        """An engine died, and all of its arenas with it."""
        self._arenas = {key: record for key, record in self._arenas.items() if key[0] is not engine}

    async def give_way(self, but: ArenaRecord | None = None) -> bool:
        """Have the arena that was idle for longest give its cells back, within PARK_S. False if there is none."""
        idle = [r for r in self._arenas.values() if r.taken and not r.turns and r is not but]
        if not idle:
            return False
        oldest = min(idle, key=lambda record: record.used)
        log.info("arena.gives_way", arena=oldest.name, kv_bytes=oldest.taken)
        # At once: a turn that begins there meanwhile asks for room again, and nobody is asked twice in one search.
        oldest.taken = 0
        with contextlib.suppress(EngineDied, EngineFailed, TimeoutError):
            async with asyncio.timeout(PARK_S):
                for work in list(oldest.background):
                    work.must_stop.set()
                    await work.over.wait()
                await oldest.engine.park(oldest.name)
        return True

    @contextlib.asynccontextmanager
    async def turn(self, engine: Engine, name: str) -> AsyncGenerator[None, None]:
        """Hold an arena's cells for a turn, taken again if it had given them back. Raises SessionUnavailable."""
        record = self._arenas.get((engine, name))
        if record is None:  # a backend without cells
            yield
            return
        record.turns += 1
        self.on_use()
        try:
            while not record.taken and record.needs > self.free():
                if not await self.give_way(record):
                    raise SessionUnavailable(
                        f"the cells of this workspace take {record.needs} bytes, and {self.free()} are free "
                        f"beside a reserve of {self.reserve}"
                    )
            record.taken = record.needs  # at once, so that no other turn counts on the same bytes
            yield
        finally:
            record.turns -= 1
            if not record.turns:
                record.rests.set()
            record.used = time.monotonic()

    @contextlib.asynccontextmanager
    async def background(self, engine: Engine, name: str) -> AsyncGenerator[asyncio.Event, None]:
        """Use an arena's cells for which nobody waits. What it answers is set when somebody needs their memory: then the
        work must end at once. Raises SessionUnavailable where the arena gave its cells back and there is no room.
        """
        record, work = self._arenas.get((engine, name)), Background()
        if record is None:  # a backend without cells
            yield work.must_stop
            return
        if not record.taken and record.needs > self.free():
            raise SessionUnavailable("there is no memory for cells that nobody waits for")
        record.background.add(work)
        self.on_use()
        record.taken = record.needs
        try:
            yield work.must_stop
        finally:
            record.background.discard(work)
            work.over.set()
            record.used = time.monotonic()
