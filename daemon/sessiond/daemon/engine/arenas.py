"""The arenas of an engine: made when first opened, parked when idle, given back with their last branch: once the disk has what
they hold, or their memory is wanted.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from sessiond.adapters.base import BackendError, ContextSettings, KvContext, Model, ModelSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.allowance import Allowance
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.disk import DiskTier, space
from sessiond.daemon.engine.disk.writer import HELD_PAUSE_S
from sessiond.daemon.engine.disk_link import DiskLink
from sessiond.daemon.engine.disk_told import disk_told
from sessiond.daemon.engine.identity import kv_identity
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.prompt_arena import PromptArena

WINDOWS = 2
"""Windows of cells that an arena takes where memory allows: one for a branch that fills its window, and as much for
what was left behind and what other branches do not share."""
DEVICE_SHARE = 0.8
"""Of the memory that a device has free, what new cells may take: batches need some too."""
PARKED_AFTER_S = 600.0
"""An arena on which nothing happened for so long gives its cells back."""
LEFT_S = 30.0
"""So long an arena without branches may stay until all that it has is saved for the disk."""
PASSING_SHARE = 0.01
"""Of the time, what saving for the disk may take while others work."""
CHECKED_EVERY_S = 60.0
"""How often arenas are compared with their backend when there is nothing to do."""


class NoMemory(BackendError):
    """The limit does not allow one window of cells. `needed` and `limit` are bytes."""

    def __init__(self, needed: int, limit: int) -> None:
        super().__init__(f"a window of cells takes {needed} bytes, and {limit} are left")


@dataclass(slots=True)
class _Place:
    """An arena, and when something last happened there."""

    name: str
    arena: Arena
    branches: set[str] = field(default_factory=set[str])
    moves: int = 0
    """Those of the arena that were told."""
    parked: bool = True
    """What was told of it."""
    used: float = field(default_factory=time.monotonic)
    goes: float = math.inf
    """When it is given back at the latest: it has no branches."""

    @property
    def kv_bytes(self) -> int:
        """Bytes of its cells now."""
        return 0 if self.arena.parked else self.arena.cells * self.arena.cell_bytes


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk tier of an engine, and what its KV is bound to beside what a context says of itself."""

    tier: DiskTier
    loading: ModelSettings
    user: str
    wake: Callable[[], None]
    """Has the loop look who may go on. Any thread."""


class Arenas:
    """All calls come from the loop's thread. `tell` sends events to the daemon."""

    def __init__(
        self,
        model: Model,
        tier: MemoryTier,
        tell: Callable[[wire.AnyEvent], None],
        disk: Disk | None = None,
    ) -> None:
        self._model = model
        self._tier = tier
        self._tell = tell
        self._disk = disk
        self._places: dict[str, _Place] = {}
        self._by_branch: dict[str, _Place] = {}
        self._told: dict[str, tuple[int, int]] = {}
        """What was last told of where branches are."""
        self._checked = time.monotonic()
        self._in_passing = Allowance(HELD_PAUSE_S, PASSING_SHARE)

    def open(self, command: wire.Open) -> wire.Opened:
        """A branch. Raises NoMemory, SettingsError, BackendError."""
        place = self._places.get(command.arena)
        if command.parent and (place is None or command.parent not in place.branches):
            raise BackendError(f"no branch {command.parent} in this arena")
        if place is None:
            place = _Place(command.arena, self._make(command))
            self._places[command.arena] = place
        place.arena.open(command.branch, command.parent or None, command.keeps, yields=command.yields)
        place.branches.add(command.branch)
        place.used, place.goes = time.monotonic(), math.inf
        self._by_branch[command.branch] = place
        return wire.Opened(place.arena.settings, place.arena.cell_bytes)

    def _make(self, command: wire.Open) -> Arena:
        limit = self._make_room(command.settings, command.kv_limit)
        settings = replace(command.settings, num_cells=self._cells(command.settings, limit))
        context = self._model.new_context(settings)
        if not isinstance(context, KvContext):
            return PromptArena(self._model, context)

        def again() -> KvContext:
            made = self._model.new_context(context.settings)
            assert isinstance(made, KvContext)
            return made

        return KvArena(self._model, context, self._tier, again, self._link(context, command))

    def _link(self, context: KvContext, command: wire.Open) -> DiskLink | None:
        """A low-rank adapter is known by its path alone, which does not say what it was when KV was written."""
        if self._disk is None or self._disk.loading.loras or command.apart:
            return None
        identity = kv_identity(self._model.facts, self._disk.loading, context.settings)
        return DiskLink(self._disk.tier, space(identity, command.workspace, self._disk.user), self._disk.wake)

    def _make_room(self, settings: ContextSettings, on_host: int) -> int:
        """Bytes that new cells may take, 0 for no limit. Where they could use more, arenas without branches go for it."""
        wanted = self._cells(settings, 0) * self._model.cell_bytes(settings)
        limit = self._limit(on_host)
        for place in self._left():
            if not 0 < limit < wanted:
                break
            on_host += place.kv_bytes if on_host else 0
            self._give_back(place)
            limit = self._limit(on_host)
        return limit

    def _limit(self, on_host: int) -> int:
        """Bytes that new cells may take: what the daemon allows, or what the device has where they are not on the host."""
        on_device = self._model.free_memory()
        return on_host if on_device is None else max(1, int(on_device * DEVICE_SHARE))

    def _cells(self, settings: ContextSettings, limit: int) -> int:
        """How many cells a new arena takes; 0 leaves it to the backend."""
        each = self._model.cell_bytes(settings)
        window = settings.num_ctx
        if not each or not window:
            return settings.num_cells
        most = settings.num_cells or WINDOWS * window
        if limit and limit // each < window:
            raise NoMemory(window * each, limit)
        return max(window, min(most, limit // each if limit else most))

    def close(self, branch: str) -> None:
        """Forget a branch; the last one takes its arena with it, as soon as the disk need not wait for anything from it. Twice
        is once.
        """
        place = self._by_branch.pop(branch, None)
        self._told.pop(branch, None)
        if place is None:
            return
        place.arena.close(branch)
        place.branches.discard(branch)
        if not place.branches:
            place.goes = time.monotonic() + LEFT_S
            if place.arena.write_behind() is None:
                self._give_back(place)

    def _left(self) -> list[_Place]:
        """The arenas that have no branches, and are there for the disk alone."""
        return [place for place in self._places.values() if not place.branches]

    def _give_back(self, place: _Place) -> None:
        del self._places[place.name]
        place.arena.shut()
        self._tell(wire.ArenaState(wire.UNASKED, place.name, 0, 0, gone=True))

    def of(self, branch: str) -> Arena:
        """The arena of a branch on which something is about to happen. Raises BackendError."""
        place = self._by_branch.get(branch)
        if place is None:
            raise BackendError(f"no branch {branch}")
        self._told.pop(branch, None)
        place.used = time.monotonic()
        return place.arena

    def after_turn(self, busy: Collection[str]) -> None:
        """Tell of branches that moved without a job of theirs; `busy` are those that have one. A little goes to the disk also
        while jobs run all the time, and who has no branches goes when its time is over.
        """
        if self._disk is not None:
            self._disk.tier.hold(bool(busy))
            if busy:
                self._in_passing.spend(self._save_in_passing)
        for place in self._left():
            if time.monotonic() >= place.goes:
                self._give_back(place)
        for place in self._places.values():
            if not place.branches.isdisjoint(busy):
                place.used = time.monotonic()
            if place.arena.parked != place.parked:
                self._tell_state(place)
            if place.arena.moves == place.moves:
                continue
            place.moves = place.arena.moves
            for branch in place.branches.difference(busy):
                there = place.arena.residence(branch)
                if self._told.get(branch) != there:
                    self._told[branch] = there
                    self._tell(wire.Residence(wire.UNASKED, branch, *there))

    def park(self, name: str) -> None:
        """Give an arena's cells back; its branches stay, in memory where that is worth it. Without branches it goes."""
        place = self._places.get(name)
        if place is not None and place.branches:
            place.arena.park()
        elif place is not None:
            self._give_back(place)

    def check(self) -> wire.Checked:
        """Compare all arenas with their backends. Raises AssertionError."""
        for place in self._places.values():
            place.arena.check_integrity()
        residence = {branch: place.arena.residence(branch) for branch, place in self._by_branch.items()}
        return wire.Checked(residence, self._tier.used)

    def idle(self) -> float | None:
        """What is to be done when there is nothing to do; in how many seconds to come again."""
        now = time.monotonic()
        if now - self._checked >= CHECKED_EVERY_S:
            self._checked = now
            for place in self._places.values():
                self._check(place)
        for place in list(self._places.values()):
            if now - place.used >= PARKED_AFTER_S:
                self.park(place.name)
        # One piece at a time: who comes meanwhile waits for no more than that. First to the disk, while it is in cells.
        again = self._save_when_idle()
        if 0.0 in again or any(place.arena.shed() for place in self._places.values()):
            return 0.0
        return min(again, default=CHECKED_EVERY_S if self._places else None)

    def _save_when_idle(self) -> list[float]:
        """One piece of each arena that has some; in how many seconds to come again for each."""
        again: list[float] = []
        for place in list(self._places.values()):
            pause = place.arena.write_behind()
            if pause is not None:
                again.append(pause)
            elif not place.branches:
                self._give_back(place)
        return again

    def _save_in_passing(self) -> None:
        """One piece, first of those who go."""
        for place in sorted(self._places.values(), key=lambda place: bool(place.branches)):
            if place.arena.write_behind(in_passing=True) is not None:
                return

    def disk_told(self) -> wire.DiskTold | None:
        """How the disk tier stands; None without one. Any thread."""
        return None if self._disk is None else disk_told(self._disk.tier.facts())

    def flush(self, seconds: float) -> bool:
        """Have the disk keep all that it has not yet. Whether that was done within the time."""
        if self._disk is None:
            return True
        until = time.monotonic() + seconds
        self._disk.tier.hold(False)
        self._disk.tier.wait_open(seconds)
        left = [place.arena for place in self._places.values()]
        while left and time.monotonic() < until:
            again = {id(arena): arena.write_behind() for arena in left}
            left = [arena for arena in left if again[id(arena)] is not None]
            time.sleep(min((again[id(arena)] or 0.0 for arena in left), default=0.0))
        return self._disk.tier.flush(max(0.0, until - time.monotonic()))

    def shut(self) -> None:
        """Give everything back."""
        for place in self._places.values():
            place.arena.shut()
        self._places.clear()
        if self._disk is not None:
            self._disk.tier.close()

    @staticmethod
    def _check(place: _Place) -> None:
        try:
            place.arena.check_integrity()
        except AssertionError as fault:
            # Any doubt about what is cached is a miss: better computed again than wrong.
            sys.stderr.write(
                f"the cells of an arena are not what they should be ({fault}): they are emptied\n"
            )
            place.arena.reset()

    def _tell_state(self, place: _Place) -> None:
        place.parked = place.arena.parked
        cells = 0 if place.parked else place.arena.cells
        self._tell(wire.ArenaState(wire.UNASKED, place.name, cells, place.kv_bytes))
