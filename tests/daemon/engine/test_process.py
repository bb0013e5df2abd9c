"""Engine processes: real children on scripted models."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import time
from collections.abc import AsyncGenerator

import psutil
import pytest
import pytest_asyncio
from tests.daemon.engine.scripted import fresh_answer, fresh_logits

from sessiond.adapters.base import ContextSettings, ModelSettings, Sampling
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Generation
from sessiond.daemon.engine.process import EngineDied, EngineFailed, EngineProcess
from sessiond.daemon.engine.threads import engine_environment


@pytest_asyncio.fixture
async def process() -> AsyncGenerator[EngineProcess, None]:
    started = await EngineProcess.start()
    yield started
    await started.stop(patience=0.5)
    assert not psutil.pid_exists(started.pid)


async def _load(process: EngineProcess, options: str = "") -> Engine:
    kind = "scripted-prompt" if options == "prompt" else "scripted-kv"
    name = f"{kind}:{'' if options == 'prompt' else options}"
    return await Engine.load(process, kind, name, ModelSettings(), lambda _: None)


def _held(_tokens: object) -> None: ...


async def test_a_model_answers(process: EngineProcess) -> None:
    shares: list[float] = []
    engine = await Engine.load(process, "scripted-kv", "scripted-kv:", ModelSettings(), shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0
    await engine.open("it", "arena", ContextSettings(num_ubatch=4))
    told: list[tuple[int, int]] = []
    advanced = await engine.advance("it", [1] * 10, lambda *at: told.append(at), _held)
    assert (advanced.reused, advanced.prefilled, advanced.source) == (0, 10, "counted")
    assert told[-1] == (10, 10)
    assert await engine.logits("it", [1] * 10) == fresh_logits([1] * 10)
    events = [e async for e in engine.generate("it", [1] * 10, Generation(Sampling(), 5), _held)]
    tokens = [token for event in events if isinstance(event, wire.Piece) for token in event.tokens]
    assert tokens == fresh_answer([1] * 10, 5)
    assert isinstance(events[-1], wire.Generated)
    assert wire.unpack_tokens(events[-1].tokens) == [1] * 10 + tokens
    await engine.close("it")


@pytest.mark.parametrize("kind", ["", "prompt"])
async def test_an_answer_tells_each_part_of_the_way_to_it(process: EngineProcess, kind: str) -> None:
    engine = await _load(process, kind)
    await engine.open("it", "arena", ContextSettings(num_ubatch=4))
    await engine.advance("it", [1, 2, 3, 4, 9, 9], lambda *_: None, _held)
    told: list[tuple[int, int]] = []
    wish = Generation(Sampling(), 5, legs=(6, 10), borders=(3,))
    tokens = [1, 2, 3, 4, 5, 6, 7, 7, 7, 7]
    heard = engine.generate("it", tokens, wish, _held, lambda *at: told.append(at))
    events = [event async for event in heard]
    first, second = [event.took for event in events if isinstance(event, wire.Reached)]
    assert (first.reused, first.restored, first.prefilled) == (4, 0, 2)
    assert (second.reused, second.restored, second.prefilled) == (6, 0, 4)
    assert second.queue_ms == 0 <= first.queue_ms, "it waited once"
    assert isinstance(events[0], wire.Reached) and isinstance(events[1], wire.Reached)
    answer = [token for event in events if isinstance(event, wire.Piece) for token in event.tokens]
    assert answer == fresh_answer(tokens, 5)
    assert (6, 6) in told and told[-1] == (10, 10)
    assert isinstance(events[-1], wire.Generated)
    await engine.close("it")


async def test_a_cancel_that_comes_too_late_leaves_what_was_said(process: EngineProcess) -> None:
    engine = await _load(process)
    await engine.open("it", "arena", ContextSettings(num_ubatch=4))
    left: list[list[int]] = []
    wish = Generation(Sampling(), 5, legs=(3,))
    heard = engine.generate("it", [1, 2, 3, 4], wish, lambda held: left.append(list(held)))
    async with contextlib.aclosing(heard) as events:
        assert isinstance(await anext(events), wire.Reached)
        await asyncio.sleep(0.3)  # all of the answer has come
    assert left == [[1, 2, 3, 4, *fresh_answer([1, 2, 3, 4], 5)]]
    await engine.close("it")


async def test_what_moves_behind_an_end_that_nobody_has_taken_is_told(process: EngineProcess) -> None:
    engine = await _load(process, "step_ms=20")
    await engine.open("it", "arena", ContextSettings(num_ubatch=4))
    moved: list[tuple[int, int]] = []
    engine.listen("it", lambda resident, in_memory: moved.append((resident, in_memory)))
    residence = wire.Residence(wire.UNASKED, "it", 2, 1)
    wish = Generation(Sampling(), 5, legs=(3,))
    heard = engine.generate("it", [1, 2, 3, 4], wish, _held)
    async with contextlib.aclosing(heard) as events:
        assert isinstance(await anext(events), wire.Reached)
        process.on_event(residence)
        assert moved == [], "said before the job began: it says itself what stands at its end"
        while not engine._calls["it"].ended:  # noqa: ASYNC110 - nobody takes it, so nobody is told
            await asyncio.sleep(0.005)
        process.on_event(residence)
        assert moved == [(2, 1)]
    await engine.close("it")


async def test_who_is_on_the_way_to_an_answer_waits_as_a_prefill_does(process: EngineProcess) -> None:
    engine = await _load(process, "step_ms=10")
    await engine.open("it", "arena", ContextSettings(num_ubatch=2))
    ranks = list[tuple[int, int]]()
    wish = Generation(Sampling(), 20, legs=(40,))
    heard = engine.generate("it", list(range(40)), wish, _held)

    async def watch() -> None:
        while True:
            tally = await engine.tally()
            ranks.append((tally.decodes, tally.prefills))

    watching = asyncio.create_task(watch())
    events = [event async for event in heard]
    watching.cancel()
    kinds = [kind for kind, _ in itertools.groupby(ranks) if kind != (0, 0)]
    assert kinds == [(0, 1), (1, 0)]
    assert isinstance(events[0], wire.Reached)
    await engine.close("it")


async def test_what_takes_long_is_told_of_before(process: EngineProcess) -> None:
    """A scripted step of half a second: its beginning is heard while it goes on."""
    engine = await _load(process, "step_ms=500")
    await engine.open("it", "arena", ContextSettings(num_ubatch=512, num_ctx=512))
    heard: list[int] = []
    advance = engine.advance("it", [1] * 400, lambda done, _total: heard.append(done), _held)
    advancing = asyncio.create_task(advance)
    while not heard:  # noqa: ASYNC110 - nobody else tells of it
        await asyncio.sleep(0.005)
    assert (await engine.tally()).prefills == 1, "it was told with the end, or after it"
    await advancing
    assert (heard[0], heard[-1]) == (0, 400)
    await engine.close("it")


async def test_an_engine_has_the_environment_that_it_is_to_have(process: EngineProcess) -> None:
    told = psutil.Process(process.pid).environ()
    assert {name: value for name, value in told.items() if "OMP_" in name} == {
        name: value for name, value in engine_environment().items() if "OMP_" in name
    }


async def test_nobody_listens_to_a_load_that_is_over(process: EngineProcess) -> None:
    await _load(process)
    assert not process._waiting


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_of_the_whole_group_leaves_the_end_to_the_daemon(
    process: EngineProcess, number: signal.Signals
) -> None:
    engine = await _load(process)
    process.kill(number)
    assert await engine.tokenize(["ab"]) == [list(b"ab")]
    assert process.ended is None


async def test_what_the_engine_cannot_do_is_told(process: EngineProcess) -> None:
    engine = await _load(process)
    with pytest.raises(EngineFailed, match="no branch nowhere"):
        await engine.logits("nowhere", [1])
    with pytest.raises(EngineFailed) as raised:
        await engine.open("it", "it", ContextSettings(kv_cache_type="f64"))
    assert (raised.value.kind, raised.value.field) == ("setting", "kv_cache_type")
    with pytest.raises(EngineFailed):
        await engine.pieces([10**6])
    await engine.open("it", "it", ContextSettings(num_ctx=8, num_cells=8))
    with pytest.raises(EngineFailed) as raised:
        await engine.advance("it", [1] * 9, lambda _d, _t: None, _held)
    assert raised.value.kind == "no_room"
    assert await engine.logits("it", [1] * 8) == fresh_logits([1] * 8)


async def _ask_until_it_is_dead(engine: Engine) -> None:
    """Its other threads may still answer while one writes the last words."""
    for number in itertools.count():
        await engine.tokenize([f"b{number}"])


async def test_death_by_signal(process: EngineProcess) -> None:
    engine = await _load(process)
    deaths: list[EngineDied] = []
    process.on_end = deaths.append
    waiting = asyncio.create_task(engine.tokenize(["a" * 1_000_000]))
    process.kill(signal.SIGABRT)
    with pytest.raises(EngineDied, match="SIGABRT") as raised:
        await _ask_until_it_is_dead(engine)
    await asyncio.wait([waiting])
    assert raised.value.signal_number == signal.SIGABRT
    assert "last words" in raised.value.cause  # faulthandler's
    assert [str(died) for died in deaths] == [raised.value.cause]
    with pytest.raises(EngineDied):
        await engine.tokenize(["c"])


async def test_death_in_a_decode_ends_the_job_and_all_others(process: EngineProcess) -> None:
    engine = await _load(process, "die=SIGSEGV@decode:4,step_ms=20")
    for name in ("one", "two"):
        await engine.open(name, name, ContextSettings(num_ubatch=4))
    jobs = [
        asyncio.create_task(engine.advance(name, [1] * 40, lambda _d, _t: None, _held))
        for name in ("one", "two")
    ]
    done = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(each, EngineDied) and "SIGSEGV" in each.cause for each in done)


async def test_death_by_exit_code_with_last_words() -> None:
    process = await EngineProcess.start()
    call = process.call(wire.Load(1, "no such adapter", "x", ModelSettings()))
    with pytest.raises(EngineFailed):
        await call.next()
    await asyncio.wait_for(process._watch, 5)
    assert process.ended is not None
    assert (process.ended.cause, process.ended.signal_number) == ("the engine ended with exit code 0", None)


async def test_last_words_are_kept() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    script = "for i in $(seq 30); do echo line $i >&2; done; exit 3"
    child = await asyncio.create_subprocess_exec("sh", "-c", script, stderr=asyncio.subprocess.PIPE)
    process = EngineProcess(child, reader, writer)
    theirs.close()
    await asyncio.wait_for(process._watch, 5)
    assert process.ended is not None
    assert process.ended.cause.startswith("the engine ended with exit code 3; last words: ")
    assert process.ended.cause.endswith("line 29 | line 30")
    writer.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x01\0\0\0\xc1",  # no msgpack
        b"\x05\0\0\0\x81\xa4type",  # cut off
        wire.PREFIX.pack(wire.MAX_FRAME + 1),
        wire.encode(wire.Cancel(1, 2)),  # a command is no event
        b"\x09\0\0\0\x81\xa4type\xa2\xff\xfe",  # no UTF-8
    ],
)
async def test_who_talks_nonsense_is_killed(nonsense: bytes) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    child = await asyncio.create_subprocess_exec("sleep", "60", stderr=asyncio.subprocess.PIPE)
    process = EngineProcess(child, reader, writer)
    call = process.call(wire.Close(1, "it"))
    theirs.sendall(nonsense)
    try:
        with pytest.raises(EngineDied, match="SIGKILL"):
            await asyncio.wait_for(call.next(), 3)
    finally:
        process.kill(signal.SIGKILL)
        theirs.close()
        writer.close()
        await process._watch


async def test_stop_within_patience(process: EngineProcess) -> None:
    engine = await _load(process, "step_ms=20")
    await engine.open("it", "it", ContextSettings(num_ubatch=1))
    job = asyncio.create_task(engine.advance("it", [1] * 1000, lambda _d, _t: None, _held))
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    await process.stop()
    assert time.monotonic() - begun < 2
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(EngineDied):
        await job


async def test_stop_of_one_that_does_not_listen(process: EngineProcess) -> None:
    process.kill(signal.SIGSTOP)
    begun = time.monotonic()
    await process.stop(patience=0.2)
    assert 0.2 <= time.monotonic() - begun < 2
    assert process.ended is not None and process.ended.signal_number == signal.SIGKILL


@pytest.mark.parametrize("kind", ["step_ms=20", "prompt"])
async def test_a_cancelled_job_is_over_before_the_cancel_returns(process: EngineProcess, kind: str) -> None:
    engine = await _load(process, kind)
    await engine.open("it", "it", ContextSettings(num_ubatch=1))
    held: list[list[int]] = []
    waiting = set(process._waiting)
    for _ in range(3):
        job = asyncio.create_task(
            engine.advance("it", [1] * 500, lambda _d, _t: None, lambda tokens: held.append(list(tokens)))
        )
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        job.cancel()
        await asyncio.wait([job])
        assert time.monotonic() - begun < 1
    assert set(process._waiting) == waiting
    assert all(tokens == [1] * len(tokens) for tokens in held)
    if kind != "prompt":
        assert [len(tokens) for tokens in held] == sorted(len(tokens) for tokens in held)
        assert 0 < len(held[-1]) < 500


async def test_a_cancel_sent_while_another_arena_decodes_is_not_lost(process: EngineProcess) -> None:
    """The loop takes the job in only after that decode; the cancel must wait for it, not pass it by."""
    engine = await _load(process, "step_ms=300")
    for name in ("long", "short"):
        await engine.open(name, name, ContextSettings(num_ubatch=1))
    long = asyncio.create_task(engine.advance("long", [1] * 4, lambda _d, _t: None, _held))
    await asyncio.sleep(0.1)
    short = asyncio.create_task(engine.advance("short", [2] * 20, lambda _d, _t: None, _held))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    short.cancel()
    await asyncio.wait([short])
    assert time.monotonic() - begun < 2
    long.cancel()
    await asyncio.wait([long])


async def test_a_second_cancel_leaves_no_job_behind(process: EngineProcess) -> None:
    engine = await _load(process, "step_ms=50")
    await engine.open("it", "it", ContextSettings(num_ubatch=1))
    waiting = set(process._waiting)
    job = asyncio.create_task(engine.advance("it", [1] * 500, lambda _d, _t: None, _held))
    await asyncio.sleep(0.1)
    job.cancel()
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.wait([job])
    async with asyncio.timeout(3):
        # Behind a job of 500 steps this would take 25 seconds.
        assert await engine.logits("it", [1]) == fresh_logits([1])
    await asyncio.sleep(0.05)
    assert set(process._waiting) == waiting
