"""Memory that gets short, as files tell of it, and what a daemon's engines then give back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from sessiond.adapters.base import ContextSettings, ModelSettings
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.daemon.engine import foresight, memory
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.foresight import Foresight
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.engine.pool import EnginePool
from sessiond.daemon.engine.pressure import Level
from sessiond.daemon.machine import Machine

WINDOW = 256
TIER = 1 << 20


@dataclass
class _Place:
    """A machine of files, and an engine with two arenas."""

    machine: Machine
    memory: KvMemory
    foresight: Foresight
    engine: Engine

    def leave(self, share: float) -> None:
        """Let the machine have so many reserves left."""
        limit = 1 << 45
        self.machine.groups.joinpath("memory.max").write_text(str(limit))
        used = limit - int(share * self.memory.reserve)
        self.machine.groups.joinpath("memory.current").write_text(str(used))

    async def open(self, branch: str, arena: str) -> None:
        settings = ContextSettings(num_ctx=WINDOW, num_ubatch=4)
        self.memory.opened(self.engine, arena, arena, await self.engine.open(branch, arena, settings))

    async def fill(self, branch: str, tokens: list[int]) -> None:
        await self.engine.advance(branch, tokens, lambda _done, _total: None, lambda _held: None)

    async def kept(self) -> int:
        """Bytes of KV in memory."""
        return (await self.engine.tally()).memory_tier

    def cells(self) -> dict[str, bool]:
        """Whether each arena has its cells."""
        return {record.name: record.taken > 0 for record in self.memory.records()}


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncGenerator[_Place, None]:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "groups").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {1 << 40} kB\n")
    machine = Machine(tmp_path / "proc", tmp_path / "groups")
    memory = KvMemory(0, machine.available)
    pool = EnginePool(lambda _engine: None, lambda _engine, _died: None, Tiers(memory=TIER))
    foresight = Foresight(memory, pool.loaded, TIER)
    engine = await pool.get(EngineKey("scripted-kv:step_ms=5", ModelSettings()))
    engine.on_arena = lambda state: memory.heard(engine, state)
    made = _Place(machine, memory, foresight, engine)
    made.leave(10)
    yield made
    await foresight.stop()
    await pool.stop()


async def _two_arenas(place: _Place) -> None:
    """Two that have cells, and KV of a third one in memory."""
    for name in ("one", "two", "three"):
        await place.open(name, name)
        await place.fill(name, [len(name)] * 100)
    record = next(each for each in place.memory.records() if each.name == "three")
    record.used = 0.0  # as if it had been idle for longest
    assert await place.memory.give_way()
    assert await place.kept() >= 100 * CELL_BYTES


async def test_with_enough_left_nothing_is_given_back(place: _Place) -> None:
    await _two_arenas(place)
    await place.foresight.look()
    assert place.foresight.level is Level.EASY
    assert await place.kept() > 0 and place.cells() == {"one": True, "two": True, "three": False}


async def test_first_goes_what_is_in_memory(place: _Place) -> None:
    await _two_arenas(place)
    place.leave(0.7)
    await place.foresight.look()
    assert place.foresight.level is Level.TRIM
    assert await place.kept() == 0 and place.cells() == {"one": True, "two": True, "three": False}
    assert not place.memory.is_tight


async def test_nothing_more_goes_into_memory_until_all_is_easy(place: _Place) -> None:
    await _two_arenas(place)
    place.leave(0.7)
    await place.foresight.look()
    assert await place.memory.give_way()
    assert await place.kept() == 0
    place.leave(10)
    await place.foresight.look()
    assert place.foresight.level is Level.EASY
    assert await place.memory.give_way()
    assert await place.kept() > 0


async def test_then_arenas_on_which_nothing_runs(place: _Place) -> None:
    await _two_arenas(place)
    async with place.memory.turn(place.engine, "two"):
        place.leave(0.4)
        await place.foresight.look()
        assert place.foresight.level is Level.PARK
        assert place.cells() == {"one": False, "two": True, "three": False}
    await place.foresight.look()
    assert place.cells() == {"one": False, "two": False, "three": False}
    assert await place.kept() == 0


async def test_no_more_arenas_than_needed(place: _Place) -> None:
    await _two_arenas(place)
    place.leave(0.4)
    real, calls = place.memory.give_way, list[None]()

    async def give_way(but: object = None) -> bool:
        calls.append(None)
        place.leave(2)  # it was enough
        return await real()

    place.memory.give_way = give_way  # type: ignore[method-assign]  # what it frees must show in the files
    await place.foresight.look()
    assert len(calls) == 1 and sum(place.cells().values()) == 1


async def test_last_new_arenas_are_refused_until_there_is_much_more(place: _Place) -> None:
    for share, tight in ((0.3, False), (0.2, True), (0.3, True), (0.4, False)):
        place.leave(share)
        await place.foresight.look()
        assert place.memory.is_tight is tight, share
    assert place.memory.room_for_new() == 0  # and until there is more than the reserve
    place.leave(3)
    await place.foresight.look()
    assert place.memory.room_for_new() == 2 * place.memory.reserve


def _watch(place: _Place) -> asyncio.Task[None]:
    assert place.foresight._watch is not None
    return place.foresight._watch


async def test_it_looks_while_something_runs_and_then_no_more(place: _Place) -> None:
    await place.open("one", "one")
    async with place.memory.turn(place.engine, "one"):
        assert place.memory.is_used and not _watch(place).done()
    async with asyncio.timeout(20):
        await _watch(place)  # nothing runs, and there is plenty
    place.foresight.stir()
    assert not _watch(place).done()


async def test_it_goes_on_looking_while_little_is_left(place: _Place) -> None:
    place.leave(2)
    place.foresight.stir()
    watch = _watch(place)
    await asyncio.sleep(0.1)
    assert not watch.done()
    place.leave(0.2)
    async with asyncio.timeout(20):
        while not place.memory.is_tight:  # noqa: ASYNC110 - asked of the memory itself
            await asyncio.sleep(0.01)
    place.leave(10)
    async with asyncio.timeout(20):
        await watch
    assert place.foresight.level is Level.EASY


async def test_an_engine_that_died_stands_in_nobody_s_way(place: _Place) -> None:
    await _two_arenas(place)
    place.leave(0.4)
    place.engine.process.kill(9)
    await place.foresight.look()
    await place.engine.process._watch
    await place.foresight.look()
    assert place.foresight.level is Level.PARK


async def test_an_engine_that_hangs_stands_in_nobody_s_way(
    place: _Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PARK_S", 0.2)
    monkeypatch.setattr(foresight, "PATIENCE_S", 0.2)
    await _two_arenas(place)
    place.leave(0.4)
    place.engine.process.kill(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            await place.foresight.look()
            await place.memory.give_way()  # as whoever opens a branch does
    finally:
        place.engine.process.kill(signal.SIGCONT)
    assert not any(place.cells().values())


async def test_a_limit_that_is_heard_too_late_is_taken_back_too(
    place: _Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foresight, "PATIENCE_S", 0.5)
    await _two_arenas(place)
    real = place.engine.limit_memory

    async def late(memory_tier: int) -> None:
        await real(memory_tier)
        await asyncio.sleep(60)

    monkeypatch.setattr(place.engine, "limit_memory", late)
    place.leave(0.7)
    await place.foresight.look()
    assert await place.kept() == 0
    monkeypatch.undo()
    place.leave(10)
    await place.foresight.look()
    assert await place.memory.give_way()
    assert await place.kept() > 0
