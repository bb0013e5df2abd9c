"""Totals over real engines never fall, whoever dies and whoever does not answer."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import pytest_asyncio
from tests.daemon.metrics.readings import DISK, tallied

from sessiond.adapters.base import ContextSettings, ModelSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.process import EngineProcess
from sessiond.daemon.metrics import engines
from sessiond.daemon.metrics.engines import EngineTotals

Start = Callable[[], Awaitable[Engine]]


@pytest_asyncio.fixture
async def start() -> AsyncGenerator[Start, None]:
    """Starts engines; all are ended."""
    processes: list[EngineProcess] = []

    async def started() -> Engine:
        process = await EngineProcess.start()
        processes.append(process)
        return await Engine.load(
            # Slow enough for what leaves the cells to be worth keeping.
            process,
            "scripted-kv",
            "scripted-kv:step_ms=10",
            ModelSettings(),
            lambda _: None,
            Tiers(memory=1 << 20),
        )

    yield started
    for process in processes:
        process.kill(signal.SIGCONT)
        await process.stop(patience=0.5)


async def _work(engine: Engine) -> int:
    """Two branches that do not fit into the cells together, in turn. How many tokens were restored."""
    settings = ContextSettings(num_ctx=64, num_cells=64)
    for branch in "ab":
        await engine.open(branch, "arena", settings)
    turns = [
        await engine.advance("ab"[token - 1], [token] * 60, lambda *_: None, lambda _: None)
        for token in (1, 2, 1, 2)
    ]
    return sum(turn.restored for turn in turns)


def _totals(told: wire.Tallied) -> list[int]:
    return [told.kept_tokens, told.dropped_tokens, told.forgotten_tokens, told.restored_tokens, told.fetched_tokens]  # fmt: skip


async def test_what_moved_is_counted(start: Start) -> None:
    engine = await start()
    assert _totals(await EngineTotals().ask([engine])) == [0] * 5
    restored = await _work(engine)
    told = await EngineTotals().ask([engine])
    assert told.restored_tokens == restored > 0
    assert told.kept_tokens > told.restored_tokens  # the branch that waits is in memory
    assert told.kept_tokens + told.dropped_tokens - told.restored_tokens == 60
    assert told.memory_tier > 0
    assert told == await engine.tally()


async def test_totals_of_the_dead_stay(start: Start) -> None:
    totals, one, other = EngineTotals(), await start(), await start()
    await _work(one)
    await _work(other)
    before = await totals.ask([one, other])
    assert _totals(before) == [a + b for a, b in zip(_totals(await one.tally()), _totals(await other.tally()), strict=True)]  # fmt: skip
    os.kill(one.process.pid, signal.SIGKILL)
    await one.process._watch
    after = await totals.ask([other])
    assert _totals(after) == _totals(before)
    assert after.memory_tier == (await other.tally()).memory_tier
    assert await totals.ask([other]) == after
    assert _totals(await totals.ask([])) == _totals(before)


async def test_one_that_hangs_counts_with_what_it_said_last(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PATIENCE_S", 0.1)
    totals, engine = EngineTotals(), await start()
    await _work(engine)
    before = await totals.ask([engine])
    os.kill(engine.process.pid, signal.SIGSTOP)
    assert await totals.ask([engine]) == before


async def test_disks_add_up_and_their_totals_stay() -> None:
    told = tallied(*[0] * 11, disk=DISK)
    total = engines._sum(told, told).disk
    assert total is not None and total.entries == 4 and total.set_aside == 28
    assert total.limit == DISK.limit, "they share it"
    kept = engines._totals_of(told).disk
    assert kept is not None
    assert (kept.open, kept.entries, kept.bytes, kept.limit, kept.waiting_bytes) == (0,) * 5
    assert (kept.kv_bytes, kept.set_aside) == (6, 14)
    assert engines._sum(told, tallied(*[0] * 11)).disk == told.disk
