"""Engines that die under sessions: what goes on by itself, what is told, and what is not tried for ever."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters import tiny_models
from tests.daemon.engine.scripted import fresh_answer
from tests.daemon.sessions.conftest import Opener

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.engine import pool
from sessiond.daemon.engine.deaths import FREE
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.seat import AGAIN
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.events import Faulted, KeepHotRan, SessionEvent
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, SuffixStatus, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import SessionClosed, SessionFatal, SessionUnavailable

SLOW = "scripted-kv:step_ms=20"
SLOW_PROMPT = "scripted-prompt:step_ms=20"
SMALL_STEPS = ContextSettings(num_ubatch=2)


def _asked(*texts: str) -> PrefixRequest:
    return PrefixRequest(tuple(Segment(f"s{i}", "file", text, f"s{i}") for i, text in enumerate(texts)))


async def _ensure(session: Session, *texts: str) -> PrefixStatus:
    status = await session.ensure_prefix(_asked(*texts), Timings())
    assert status.reused_tokens + status.restored_tokens + status.prefilled_tokens == status.prefix_tokens
    assert status.resident_tokens == session.resident_tokens == status.prefix_tokens
    return status


async def _answer(session: Session, most: int) -> list[int]:
    chunks = [c async for c in session.decode(DecodeRequest(Sampling(), most), Timings())]
    return [token for chunk in chunks for token in chunk.token_ids]


async def _kill(session: Session, number: int = 9) -> Engine:
    """Kill the engine that a session stands on, and wait until that is known."""
    dead = session.engine
    dead.process.kill(number)
    await dead.process._watch
    return dead


async def _busy(session: Session, stage: str) -> None:
    """Until a turn is at this stage, and has got somewhere if its backend says how far it is."""
    least = 4 if session.engine.facts.capabilities.fork else 0
    async with asyncio.timeout(20):
        while (busy := session.report().busy) is None or busy.stage != stage or busy.done_tokens < least:  # noqa: ASYNC110 - asked of the session itself
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.1 if not least else 0.0)


async def _next_engine(session: Session, dead: Engine) -> None:
    async with asyncio.timeout(20):
        while session.engine is dead:  # noqa: ASYNC110 - asked of the session itself
            await asyncio.sleep(0.005)


async def _kill_at_work(session: Session, turn: Awaitable[object], stage: str, times: int) -> object:
    """Kill the engine so many times in one turn, each time when it has got somewhere."""
    job = asyncio.ensure_future(turn)
    for _ in range(times):
        await _busy(session, stage)
        dead = await _kill(session)
        if not job.done():
            await asyncio.wait(
                {job, asyncio.ensure_future(_next_engine(session, dead))}, return_when="FIRST_COMPLETED"
            )
    return await job


# Turns that had not begun to answer.


@pytest.mark.parametrize("model", [SLOW, SLOW_PROMPT])
@pytest.mark.parametrize("deterministic", [False, True])
async def test_a_prefill_is_run_again_and_the_answer_is_right(
    opened: Opener, model: str, deterministic: bool
) -> None:
    context = ContextSettings(num_ubatch=2, deterministic=deterministic)
    session = await opened(model, prompt_format="raw", context=context)
    status = await _kill_at_work(session, _ensure(session, "A" * 60), "prefix", 1)
    assert isinstance(status, PrefixStatus) and status.prefix_tokens == 60
    assert await _answer(session, 6) == fresh_answer([65] * 60, 6)


async def test_a_turn_outlives_as_many_deaths_as_it_is_said_to(opened: Opener) -> None:
    session = await opened(SLOW, prompt_format="raw", context=SMALL_STEPS)
    status = await _kill_at_work(session, _ensure(session, "A" * 60), "prefix", AGAIN)
    assert isinstance(status, PrefixStatus) and status.prefix_tokens == 60
    assert await _answer(session, 6) == fresh_answer([65] * 60, 6)


async def test_what_kills_every_engine_is_not_sent_for_ever(opened: Opener) -> None:
    """The decodes before are those of the trial at load, and of the defaults."""
    session = await opened("scripted-kv:die=SIGABRT@decode:4", prompt_format="raw", context=SMALL_STEPS)
    with pytest.raises(SessionFatal, match="SIGABRT"):
        await _ensure(session, "A" * 60)
    assert (session.state, session.tokens, session.resident_tokens) == ("ready", [], 0)
    assert session.engine.process.ended is not None
    with pytest.raises(SessionUnavailable, match=f"died {AGAIN + 1} times.*SIGABRT.*again in"):
        await _ensure(session, "A")


@pytest.mark.parametrize(
    ("stage", "prefix", "suffix"), [("prefix", "A" * 40, "xyz"), ("suffix", "AAAA", "xyz" * 12)]
)
async def test_a_death_on_the_way_to_an_answer_changes_nothing_that_was_told(
    opened: Opener, stage: str, prefix: str, suffix: str
) -> None:
    session = await opened(SLOW, prompt_format="raw", context=SMALL_STEPS)
    parts = list[PrefixStatus | SuffixStatus | Chunk]()

    async def turn() -> None:
        asked = DecodeRequest(Sampling(), 6)
        async for part in session.complete(_asked(prefix), SuffixRequest(suffix), asked, Timings()):
            parts.append(part)

    running = asyncio.create_task(turn())
    await _busy(session, stage)
    assert [type(part) for part in parts] == ([PrefixStatus] if stage == "suffix" else [])
    await _kill(session)
    await running
    first, second, *chunks = parts
    assert isinstance(first, PrefixStatus) and isinstance(second, SuffixStatus)
    tokens = [token for chunk in chunks if isinstance(chunk, Chunk) for token in chunk.token_ids]
    assert tokens == fresh_answer([*prefix.encode(), *suffix.encode()], 6)
    assert session.tokens == [*prefix.encode(), *suffix.encode(), *tokens]
    # What was computed for the prefix once more belongs to the part that was under way.
    lost = len(prefix) if stage == "suffix" else 0
    assert second.prefilled_tokens == len(suffix) + lost


# Answers that were cut short.


@pytest.mark.parametrize("model", [SLOW, SLOW_PROMPT])
async def test_an_answer_that_was_begun_ends_and_the_session_goes_on_from_its_prefix(
    opened: Opener, model: str
) -> None:
    session = await opened(model, prompt_format="raw")
    await _ensure(session, "AAAA")
    await session.prefill_suffix(SuffixRequest("xyz"), Timings())
    got: list[int] = []

    async def answer() -> None:
        async for chunk in session.decode(DecodeRequest(Sampling(), 100), Timings()):
            got.extend(chunk.token_ids)
            if len(got) >= 3:
                session.engine.process.kill(signal.SIGSEGV)

    with session.events.watch() as queue:
        with pytest.raises(SessionFatal) as caught:
            await answer()
        told = [event.what for _ in range(queue.qsize()) if (event := queue.get_nowait()) is not None]
    assert "SIGSEGV" in caught.value.cause
    assert got == fresh_answer(list(b"AAAAxyz"), len(got))
    assert (session.state, session.tokens, session.resident_tokens) == ("ready", list(b"AAAA"), 0)
    assert Faulted("SESSION_FATAL", caught.value.message) in told
    assert await _answer(session, 6) == fresh_answer(list(b"AAAA"), 6)


# What else may be under way.


async def test_a_fork_of_a_session_whose_engine_died(opened: Opener, registry: SessionRegistry) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    await _kill(session)
    child = await registry.fork(session.name, "child")
    assert (child.tokens, child.resident_tokens) == (session.tokens, 0)
    assert child.engine is session.engine
    for each in (session, child):
        assert await _answer(each, 6) == fresh_answer(list(b"AAAA"), 6)


async def test_forks_go_on_and_share_again(opened: Opener, registry: SessionRegistry) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "A" * 40)
    child = await registry.fork(session.name, "child")
    await _kill(session)
    assert (await _ensure(child, "A" * 40)).prefilled_tokens == 40
    assert (await _ensure(session, "A" * 40)).reused_tokens == 40
    assert registry.report(child.name).shared_tokens == 40


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
async def test_an_open_outlives_its_engine(registry: SessionRegistry, after_s: float) -> None:
    first, _ = await registry.open(OpenRequest(None, "scripted-kv:load_ms=200", "a", SessionConfig()))
    dead = await _kill(first)
    job = asyncio.create_task(
        registry.open(OpenRequest(None, "scripted-kv:load_ms=200", "b", SessionConfig()))
    )
    await asyncio.sleep(after_s)
    second, attached = await job
    assert not attached and second.engine is first.engine is not dead
    await _ensure(second, "AA")
    await _ensure(first, "AA")


async def test_sessions_that_wait_together_share_one_load(opened: Opener) -> None:
    sessions = [
        await opened("scripted-kv:load_ms=200", str(index), prompt_format="raw") for index in range(4)
    ]
    await _kill(sessions[0])
    await asyncio.gather(*(_ensure(session, "AAAA") for session in sessions))
    assert len({session.engine for session in sessions}) == 1


async def test_the_next_engine_is_started_before_anybody_asks(
    opened: Opener, registry: SessionRegistry
) -> None:
    session = await opened()
    dead = await _kill(session)
    await _next_engine(session, dead)
    assert registry.pool.loaded() == [session.engine]


async def test_an_engine_that_was_started_for_others_is_told_and_its_death_too(
    opened: Opener, registry: SessionRegistry
) -> None:
    session = await opened(prompt_format="raw")
    for _ in range(FREE):
        await _next_engine(session, await _kill(session))
    with session.events.watch() as queue:
        await _kill(session)  # nothing is started by itself now
        registry.pool._deaths.clear()  # as if the wait were over
        engine = await registry.engine("scripted-kv:")
        await _kill(session)
        told = [event.what for _ in range(queue.qsize()) if (event := queue.get_nowait()) is not None]
    messages = [what.message for what in told if isinstance(what, Faulted)]
    assert [("SIGKILL" in each, "started again" in each) for each in messages] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    await _next_engine(session, engine)


async def test_once_all_ends_no_engine_is_started_by_itself(
    opened: Opener, registry: SessionRegistry
) -> None:
    session = await opened(prompt_format="raw")
    registry.begin_to_end()
    await _kill(session)
    await asyncio.sleep(0)
    assert registry.pool.loaded() == [] and not registry.pool._loading
    await _ensure(session, "AAAA")  # a turn that runs may still come to its end


async def test_without_a_session_no_engine_is_started_again(
    opened: Opener, registry: SessionRegistry
) -> None:
    session = await opened()
    await registry.close(session.name)
    await _kill(session)
    await asyncio.sleep(0)
    assert registry.pool.loaded() == [] and not registry.pool._loading


async def test_a_close_does_not_wait_for_the_next_engine(opened: Opener, registry: SessionRegistry) -> None:
    session = await opened("scripted-kv:load_ms=3000", prompt_format="raw")
    await _ensure(session, "AAAA")
    await _kill(session)
    turn = asyncio.create_task(_ensure(session, "BBBB"))
    await asyncio.sleep(0.05)
    await registry.close(session.name)
    assert session.state == "closed"
    assert registry.pool.loaded() == []  # nobody waited for it
    turn.cancel()
    await asyncio.wait([turn])


async def test_a_session_that_was_closed_meanwhile_leaves_no_branch(
    opened: Opener, registry: SessionRegistry
) -> None:
    session = await opened("scripted-kv:load_ms=300", prompt_format="raw")
    other = await opened("scripted-kv:load_ms=300", "other", prompt_format="raw")
    await _kill(session)
    turn = asyncio.create_task(_ensure(session, "BBBB"))
    await asyncio.sleep(0.05)
    await registry.close(session.name)
    with pytest.raises(SessionClosed):
        await turn
    await _ensure(other, "BBBB")
    assert (await other.engine.check()).residence.keys() == {other.id}


async def test_a_turn_that_is_cancelled_while_it_waits_leaves_the_session_as_it_was(opened: Opener) -> None:
    session = await opened("scripted-kv:load_ms=300", prompt_format="raw")
    await _ensure(session, "AAAA")
    await _kill(session)
    turn = asyncio.create_task(_ensure(session, "BBBB"))
    await asyncio.sleep(0.05)
    turn.cancel()
    await asyncio.wait([turn])
    assert (session.state, session.tokens) == ("ready", list(b"AAAA"))
    assert await _answer(session, 4) == fresh_answer(list(b"AAAA"), 4)
    assert (await session.engine.check()).residence.keys() == {session.id}


async def test_memory_is_accounted_for_on_the_next_engine(opened: Opener, registry: SessionRegistry) -> None:
    session = await opened(prompt_format="raw")
    [before] = registry.memory.records()
    cells = before.cells
    await _kill(session)
    assert registry.memory.records() == []
    await _ensure(session, "AAAA")
    [after] = registry.memory.records()
    assert (after.engine, after.cells, after.turns) == (session.engine, cells, 0)


async def test_deaths_in_a_loop_are_answered_at_once(opened: Opener, registry: SessionRegistry) -> None:
    session = await opened(prompt_format="raw")
    for _ in range(FREE):
        await _next_engine(session, await _kill(session))
    await _kill(session)
    for ask in (_ensure(session, "A"), registry.open(OpenRequest(None, "", "new", SessionConfig()))):
        with pytest.raises(SessionUnavailable, match=f"died {FREE + 1} times in a row.*SIGKILL.*again in"):
            await ask
    assert registry.pool.waiting() == 1
    await registry.close(session.name)
    registry.pool._deaths.clear()  # as if the wait were over
    session = await opened(prompt_format="raw")
    await _ensure(session, "A")


async def test_another_model_in_the_place_of_the_old_one_is_no_next_engine(
    registry: SessionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may have been replaced meanwhile: the tokens of its sessions would mean something else."""
    request = OpenRequest(None, "", "", SessionConfig(prompt_format="raw"))
    session, _ = await registry.open(request)
    await _ensure(session, "AAAA")
    other = await registry.engine("scripted-kv:weights=other")
    await _kill(session)

    async def replaced(_key: object) -> Engine:
        return other

    monkeypatch.setattr(session.home.seat, "_get", replaced)
    with pytest.raises(SessionFatal, match="has changed"):
        await _ensure(session, "AAAA")
    assert session.state == "fatal" and "has changed" in session.report().fatal_cause
    with pytest.raises(SessionFatal, match="has changed"):
        await _ensure(session, "AAAA")


@pytest.mark.model
async def test_sessions_over_a_file_that_was_replaced_are_over_before_anybody_asks(
    registry: SessionRegistry, tmp_path: Path
) -> None:
    file = tmp_path / "m.gguf"
    tiny_models.plain(file, layers=4)
    requests = [OpenRequest(None, str(file), key, SessionConfig(prompt_format="raw")) for key in "ab"]
    sessions = [(await registry.open(each))[0] for each in requests]
    await _ensure(sessions[0], "AAAA")
    tiny_models.plain(tmp_path / "other.gguf", layers=3)
    (tmp_path / "other.gguf").replace(file)
    await _kill(sessions[0])
    async with asyncio.timeout(60):
        while not registry.pool.loaded():  # noqa: ASYNC110 - asked of the pool itself
            await asyncio.sleep(0.01)
    assert [each.state for each in sessions] == ["fatal", "fatal"]
    with pytest.raises(SessionFatal, match="has changed"):
        await registry.fork(sessions[0].name, "child")
    again, attached = await registry.open(requests[0])
    assert not attached and again is not sessions[0]
    await _ensure(again, "AAAA")


async def test_a_waiting_engine_s_sessions_keep_its_place(
    opened: Opener, registry: SessionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_ENGINES", 1)
    session = await opened(prompt_format="raw")
    for _ in range(FREE):
        await _next_engine(session, await _kill(session))
    await _kill(session)
    with pytest.raises(SessionUnavailable, match="which is the limit"):
        await opened("scripted-kv:weights=other")
    registry.pool._deaths.clear()  # as if the wait were over
    await _ensure(session, "AAAA")
    await registry.close(session.name)
    await _kill(session)
    await opened("scripted-kv:weights=other")


async def test_a_session_that_is_lost_keeps_nothing_of_what_it_was_made_of(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    session.lose("as it is")
    assert session.state == "fatal" and session.tokens == []
    assert session._plans._sources._last.tokens == []


async def test_a_prefix_that_was_on_its_way_is_not_remembered_after_a_close(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    session.engine.process.kill(signal.SIGSTOP)
    turn = asyncio.create_task(_ensure(session, "AAAA"))
    await _asked_for(session.engine, 1)
    close = asyncio.create_task(session.close())
    await asyncio.sleep(0)
    session.engine.process.kill(signal.SIGCONT)
    await close
    with pytest.raises(SessionClosed):
        await turn
    assert session._plans._sources._last.tokens == []


async def _asked_for(engine: Engine, commands: int) -> None:
    """Until so many commands wait for an answer."""
    async with asyncio.timeout(20):
        while len(engine.process._waiting) < commands:  # noqa: ASYNC110 - asked of the process itself
            await asyncio.sleep(0.005)


async def test_assemblies_that_wait_for_an_engine_do_not_keep_it_from_being_started(
    registry: SessionRegistry, tmp_path: Path
) -> None:
    workers = 3
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(workers))
    sessions: list[Session] = []
    for number in range(workers):
        root = tmp_path / str(number)
        root.mkdir()
        (root / "a.txt").write_text(f"the file of {number}")
        request = OpenRequest(root, "scripted-kv:", "", SessionConfig(prompt_format="raw"))
        sessions.append((await registry.open(request))[0])
    engine = sessions[0].engine
    engine.process.kill(signal.SIGSTOP)
    asked = PrefixRequest(workspace=True)
    turns = [asyncio.create_task(session.ensure_prefix(asked, Timings())) for session in sessions]
    await _asked_for(engine, workers)
    engine.process.kill(signal.SIGKILL)
    async with asyncio.timeout(30):
        statuses = await asyncio.gather(*turns)
    assert all(status.prefix_tokens > 0 for status in statuses)


# Tiers and keep-hot.


Registries = Callable[..., SessionRegistry]


@pytest_asyncio.fixture
async def made() -> AsyncGenerator[Registries, None]:
    """Makes registries, and stops them."""
    all_: list[SessionRegistry] = []

    async def same(model: str) -> str:
        return model or SLOW

    def make(**how: object) -> SessionRegistry:
        all_.append(SessionRegistry(same, 8, default_num_ctx=2048, **how))  # type: ignore[arg-type]  # the caller's own names
        return all_[-1]

    yield make
    for each in all_:
        await each.stop()


async def test_what_was_written_comes_back_instead_of_being_computed(
    made: Registries, tmp_path: Path
) -> None:
    registry = made(tiers=Tiers(memory=1 << 20, disk=1 << 26, folder=tmp_path))
    session, _ = await registry.open(OpenRequest(None, "", "", SessionConfig(prompt_format="raw")))
    await _ensure(session, "the quick brown fox " * 25)
    tokens = session.tokens
    await session.engine.flush(10)
    await _kill(session)
    status = await _ensure(session, "the quick brown fox " * 25)
    assert status.restored_tokens >= 0.95 * status.prefix_tokens
    assert await _answer(session, 4) == fresh_answer(tokens, 4)


@pytest_asyncio.fixture
async def warm(made: Registries) -> SessionRegistry:
    """One that keeps hot."""
    return made(calm=Calm())


@pytest_asyncio.fixture
async def hot(warm: SessionRegistry, tmp_path: Path) -> tuple[Session, Session, Path]:
    """Two sessions over a folder, whose prefix is kept hot."""
    registry = warm
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("the first file\n" * 10)
    (root / "b.txt").write_text("the second file\n" * 10)
    config = SessionConfig(prompt_format="raw", context=ContextSettings(num_ubatch=8))
    one, _ = await registry.open(OpenRequest(root, "", "one", config))
    two, _ = await registry.open(OpenRequest(root, "", "two", config))
    for each in (one, two):
        await each.ensure_prefix(PrefixRequest(workspace=True), Timings())
    return one, two, root


async def _runs(queue: asyncio.Queue[SessionEvent | None], phase: str) -> None:
    async with asyncio.timeout(30):
        while True:
            event = await queue.get()
            assert event is not None
            if isinstance(event.what, KeepHotRan) and event.what.phase == phase:
                return


async def test_keep_hot_brings_the_prefix_back_before_anybody_asks(
    hot: tuple[Session, Session, Path],
) -> None:
    one, two, _ = hot
    with one.events.watch() as queue:
        await _kill(one)
        await _runs(queue, "finished")
    for each in (one, two):
        assert (await each.ensure_prefix(PrefixRequest(workspace=True), Timings())).prefilled_tokens == 0


async def test_a_save_after_a_death_is_answered(hot: tuple[Session, Session, Path]) -> None:
    one, two, root = hot
    with one.events.watch() as queue:
        await _kill(one)
        await _runs(queue, "finished")
        (root / "b.txt").write_text("something else\n" * 10)
        await _runs(queue, "finished")
    for each in (one, two):
        status = await each.ensure_prefix(PrefixRequest(workspace=True), Timings())
        assert (status.prefilled_tokens, status.prefix_tokens) == (0, status.reused_tokens)


async def test_keep_hot_comes_back_after_a_start_that_was_refused(
    warm: SessionRegistry, hot: tuple[Session, Session, Path]
) -> None:
    one, _, root = hot
    with one.events.watch() as queue:
        for _ in range(FREE):
            await _kill(one)
            await _runs(queue, "finished")
        (root / "b.txt").write_text("something else\n" * 20)
        await _runs(queue, "started")
        await _kill(one)
        assert one.workspace is not None
        [kept] = one.workspace._hot.values()
        async with asyncio.timeout(20):
            while kept.state != "idle":  # noqa: ASYNC110 - asked of keep-hot itself
                await asyncio.sleep(0.01)
        assert warm.pool.waiting() == 1 and not kept.up_to_date
        warm.pool._deaths.clear()  # as if the wait were over
        await warm.engine("")
        await _runs(queue, "finished")
    assert (await one.ensure_prefix(PrefixRequest(workspace=True), Timings())).prefilled_tokens == 0


async def test_who_gives_up_a_close_leaves_no_branch_and_ends_nobody_else_s(
    hot: tuple[Session, Session, Path],
) -> None:
    one, two, root = hot
    await one.ensure_prefix(PrefixRequest(workspace=True, max_tokens=100), Timings())
    with one.events.watch() as ones, two.events.watch() as twos:
        (root / "b.txt").write_text("else\n" * 4)
        await _runs(ones, "finished")
        await _runs(twos, "finished")
    engine = one.engine
    engine.process.kill(signal.SIGSTOP)
    closes = [asyncio.create_task(each.close()) for each in (one, two)]
    await _asked_for(engine, 2)  # those of what was kept hot for each
    closes[0].cancel()
    await asyncio.wait([closes[0]])
    engine.process.kill(signal.SIGCONT)
    await closes[1]
    async with asyncio.timeout(20):
        while (await engine.check()).residence:  # noqa: ASYNC110 - asked of the engine itself
            await asyncio.sleep(0.01)


async def test_an_entry_that_kills_two_engines_is_left_out_by_the_third(
    made: Registries, tmp_path: Path
) -> None:
    request = OpenRequest(None, "scripted-kv:die=SIGSEGV@restore", "", SessionConfig(prompt_format="raw"))
    how = {"tiers": Tiers(memory=1 << 20, disk=1 << 26, folder=tmp_path)}
    text = "the quick brown fox " * 13
    first = made(**how)
    session, _ = await first.open(request)
    await _ensure(session, text)
    tokens = session.tokens
    await session.engine.flush(10)
    await first.stop()
    second = made(**how)
    session, _ = await second.open(request)
    with session.events.watch() as queue:
        status = await _ensure(session, text)
        told = [event.what for _ in range(queue.qsize()) if (event := queue.get_nowait()) is not None]
    deaths = [what for what in told if isinstance(what, Faulted) and "SIGSEGV" in what.message]
    assert len(deaths) == AGAIN and status.prefilled_tokens == len(tokens)
    assert await _answer(session, 4) == fresh_answer(tokens, 4)


async def test_a_death_under_keep_hot_is_outlived(hot: tuple[Session, Session, Path]) -> None:
    one, _, root = hot
    with one.events.watch() as queue:
        (root / "b.txt").write_text("something else\n" * 20)
        await _runs(queue, "started")
        await _kill(one)
        await _runs(queue, "finished")
    assert (await one.ensure_prefix(PrefixRequest(workspace=True), Timings())).prefilled_tokens == 0
