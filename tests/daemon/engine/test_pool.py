"""The pool: one process for each model and way of loading it, and none that nobody knows."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncGenerator

import psutil
import pytest
import pytest_asyncio

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine import pool as pools
from sessiond.daemon.engine.deaths import FREE
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.pool import EnginePool
from sessiond.daemon.engine.process import EngineDied
from sessiond.daemon.engine.seat import AGAIN, Seat
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
    for said in (r"died while it loaded.*SIGILL", r"set aside.*SIGILL"):
        with pytest.raises(SessionUnavailable, match=said):
            await pool.get(_key("die=SIGILL@load"))
    with pytest.raises(SessionUnavailable, match="set aside"):
        await pool.seat(_key("die=SIGILL@load"))
    assert deaths == [] and pool.loaded() == [] and not _children()


async def test_a_model_that_cannot_be(pool: EnginePool) -> None:
    for model in ("scripted-kv:nonsense", "no scheme of ours"):
        with pytest.raises(InvalidInput) as raised:
            await pool.get(EngineKey(model, ModelSettings()))
        assert [each.field for each in raised.value.violations] == ["model"]
    assert not _children()


async def _kill(engine: Engine) -> None:
    engine.process.kill(9)
    await engine.process._watch


async def test_a_seat_goes_on_with_the_next_engine_and_says_so_once(pool: EnginePool) -> None:
    told: list[Seat] = []
    pool.on_next = told.append
    seat = await pool.seat(_key())
    first = seat.engine
    assert await pool.seat(_key()) is seat and await seat.standing() is first and told == []
    await _kill(first)
    one, two = await asyncio.gather(seat.standing(), seat.standing())
    assert one is two is seat.engine is not first
    assert told == [seat] and await pool.seat(_key()) is seat


async def test_what_is_done_on_a_seat_is_done_again(pool: EnginePool) -> None:
    seat = await pool.seat(_key())
    used: list[Engine] = []

    async def act(engine: Engine) -> list[list[int]]:
        used.append(engine)
        if len(used) <= AGAIN:
            engine.process.kill(9)
        return await engine.tokenize([f"xyz{len(used)}"])

    assert await seat.outliving(act) == [list(f"xyz{AGAIN + 1}".encode())]
    assert len(set(used)) == AGAIN + 1


async def test_what_kills_is_not_done_for_ever(pool: EnginePool) -> None:
    seat = await pool.seat(_key())
    used: list[Engine] = []

    async def act(engine: Engine) -> list[list[int]]:
        used.append(engine)
        engine.process.kill(9)
        return await engine.tokenize([f"xyz{len(used)}"])

    with pytest.raises(EngineDied, match="SIGKILL"):
        await seat.outliving(act)
    assert len(used) == AGAIN + 1


async def test_deaths_in_a_row_are_answered_with_a_wait(pool: EnginePool) -> None:
    for _ in range(FREE + 1):
        await _kill(await pool.get(_key()))
    for _ in range(2):
        with pytest.raises(SessionUnavailable, match=r"died 3 times in a row.*SIGKILL.*again in"):
            await pool.get(_key())
    assert pool.waiting() == 1 and not _children()
    await pool.get(_key("", ModelSettings(num_gpu_layers=3)))  # another one
    async with asyncio.timeout(20):
        while pool.waiting():  # noqa: ASYNC110 - a wait that passes tells nobody
            await asyncio.sleep(0.05)
    await pool.get(_key())


async def test_a_kill_while_it_loads_is_tried_once_more_and_as_before(pool: EnginePool) -> None:
    job = asyncio.create_task(pool.get(_key("load_ms=500")))
    async with asyncio.timeout(20):
        while not _children():  # noqa: ASYNC110 - nobody tells of a process
            await asyncio.sleep(0.02)
    [pid] = _children()
    await asyncio.sleep(0.2)
    psutil.Process(pid).kill()
    engine = await job
    assert engine.process.pid != pid
    assert pool._careful == set()


async def test_a_machine_that_has_no_room_for_a_process_is_no_fault_of_the_model(pool: EnginePool) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(SessionUnavailable, match="no engine can be started"):
            await pool.get(_key())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await pool.get(_key())


async def test_a_seat_goes_on_with_an_engine_that_was_started_for_others(
    pool: EnginePool, deaths: Deaths
) -> None:
    told: list[Seat] = []
    pool.on_next = told.append
    seat = await pool.seat(_key())
    await _kill(seat.engine)
    found = await pool.get(_key())  # as for a client who only asks for tokens
    assert seat.engine is found and told == [seat]
    await _kill(found)
    assert deaths[-1][0] is found


async def test_one_that_was_started_again_and_died_at_once_is_started_again(pool: EnginePool) -> None:
    seat = await pool.seat(_key())

    def die(each: Seat) -> None:
        pool.on_next = lambda _seat: None
        each.engine.process.ended = EngineDied("at once")  # before whoever waits can go on
        each.engine.process.kill(9)

    pool.on_next = die
    first = seat.engine
    await _kill(first)
    seat.start_again()
    async with asyncio.timeout(20):
        while seat.engine is first or seat.engine.process.ended is not None:  # noqa: ASYNC110 - asked of the seat itself
            await asyncio.sleep(0.01)
    assert pool.loaded() == [seat.engine]


async def test_an_engine_that_waits_keeps_its_place(
    pool: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "MAX_ENGINES", 2)
    pool.stood_on = lambda: {_key()}
    await pool.get(_key("", ModelSettings(num_gpu_layers=1)))
    for _ in range(2):
        with pytest.raises(SessionUnavailable, match="which is the limit"):
            await pool.get(_key("", ModelSettings(num_gpu_layers=2)))
        await pool.get(_key())  # its own place is none that it waits for
    pool.stood_on = lambda: ()
    await _kill(await pool.get(_key()))
    await pool.get(_key("", ModelSettings(num_gpu_layers=2)))


async def test_engines_whose_deaths_are_counted_have_a_bound(
    pool: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "REMEMBERED", 2)
    for number in range(3):
        await _kill(await pool.get(_key("", ModelSettings(num_gpu_layers=number))))
    assert [key.settings.num_gpu_layers for key in pool._deaths] == [1, 2]


async def test_after_a_stop_none_is_started(pool: EnginePool) -> None:
    seat = await pool.seat(_key())
    await pool.stop()
    seat.start_again()
    with pytest.raises(SessionUnavailable, match="stopping"):
        await seat.standing()
    assert not _children()
