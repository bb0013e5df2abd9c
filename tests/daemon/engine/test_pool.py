"""The pool: one process for each model and way of loading it, and none that nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import psutil
import pytest
import pytest_asyncio

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.pool import EngineKey, EnginePool
from sessiond.daemon.engine.process import EngineDied
from sessiond.v1.errors import InvalidInput, SessionUnavailable


class Deaths(list[tuple[Engine, EngineDied]]):
    """What the pool told of deaths."""

    def tell(self, engine: Engine, died: EngineDied) -> None:
        self.append((engine, died))


def _children() -> set[int]:
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "sessiond.daemon.engine" in child.cmdline()
    }


@pytest.fixture
def deaths() -> Deaths:
    return Deaths()


@pytest_asyncio.fixture
async def pool(deaths: Deaths) -> AsyncGenerator[EnginePool, None]:
    made = EnginePool(lambda _engine: None, deaths.tell)
    yield made
    await made.stop()
    assert not _children()


def _key(options: str = "", settings: ModelSettings | None = None) -> EngineKey:
    return EngineKey(f"scripted-kv:{options}", settings or ModelSettings())


async def test_two_that_ask_while_it_loads_share_one_process(pool: EnginePool) -> None:
    one, two = await asyncio.gather(pool.get(_key("load_ms=200")), pool.get(_key("load_ms=200")))
    assert one is two is await pool.get(_key("load_ms=200"))
    assert len(_children()) == 1
    assert pool.loaded() == [one]


async def test_another_way_of_loading_is_another_engine(pool: EnginePool) -> None:
    one, two = await asyncio.gather(pool.get(_key()), pool.get(_key("", ModelSettings(num_gpu_layers=3))))
    assert one is not two
    assert len(_children()) == 2


async def test_who_cancels_leaves_the_load_to_the_next(pool: EnginePool) -> None:
    first = asyncio.create_task(pool.get(_key("load_ms=300")))
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.wait([first])
    engine = await pool.get(_key("load_ms=300"))
    assert _children() == {engine.process.pid}


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 0.6])
async def test_a_stop_during_a_load_leaves_no_child(pool: EnginePool, after_s: float) -> None:
    load = asyncio.create_task(pool.get(_key("load_ms=3000")))
    await asyncio.sleep(after_s)
    async with asyncio.timeout(5):
        await pool.stop()
    with pytest.raises(asyncio.CancelledError):
        await load
    for _ in range(50):
        if not _children():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a child was left behind")


async def test_a_dead_engine_is_told_and_replaced(pool: EnginePool, deaths: Deaths) -> None:
    engine = await pool.get(_key())
    engine.process.kill(9)
    await engine.process._watch
    assert [(each, "SIGKILL" in died.cause) for each, died in deaths] == [(engine, True)]
    assert pool.loaded() == []
    assert (await pool.get(_key())) is not engine


async def test_a_stop_is_no_death(pool: EnginePool, deaths: Deaths) -> None:
    await pool.get(_key())
    await pool.stop()
    assert deaths == [] and pool.loaded() == []


async def test_a_fault_in_the_first_decode_is_tried_without_extra_buffers(
    pool: EnginePool, deaths: Deaths
) -> None:
    engine = await pool.get(_key("die=SIGSEGV@first-decode"))
    assert deaths == []
    engine.process.kill(9)
    await engine.process._watch
    again = await pool.get(_key("die=SIGSEGV@first-decode"))  # this time it is known
    assert pool.loaded() == [again]


async def test_one_that_dies_at_every_load(pool: EnginePool, deaths: Deaths) -> None:
    for _ in range(2):
        with pytest.raises(SessionUnavailable, match="SIGILL"):
            await pool.get(_key("die=SIGILL@load"))
    assert deaths == [] and pool.loaded() == [] and not _children()


async def test_a_model_that_cannot_be(pool: EnginePool) -> None:
    for model in ("scripted-kv:nonsense", "no scheme of ours"):
        with pytest.raises(InvalidInput) as raised:
            await pool.get(EngineKey(model, ModelSettings()))
        assert [each.field for each in raised.value.violations] == ["model"]
    assert not _children()
