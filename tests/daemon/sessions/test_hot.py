"""A workspace stays hot: what a save sets off, what the next request finds, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.events import FilesChanged, KeepHotRan, PrefillProgressed, What
from sessiond.daemon.sessions.hot import STAGE
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import PrefixStatus, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest

_WORKSPACE = PrefixRequest(workspace=True)
_SLOW = "scripted-kv:step_ms=20"
"""A step computes a micro-batch, so that a prefill can be caught half-way."""
_PATIENCE_S = 20.0


class _Place:
    """A folder, and sessions over it."""

    def __init__(self, root: Path, registry: SessionRegistry) -> None:
        self.root = root
        self.registry = registry

    async def open(
        self, model: str = "scripted-kv:", key: str = "", prompt_format: str = "raw", num_ctx: int = 0
    ) -> Session:
        config = SessionConfig(prompt_format=prompt_format, context=ContextSettings(num_ctx=num_ctx))
        session, _ = await self.registry.open(OpenRequest(self.root, model, key, config))
        return session

    def save(self, name: str, text: str) -> None:
        """As editors do: a file beside it, then a rename."""
        beside = self.root / f".{name}.new"
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.root / name)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncGenerator[_Place, None]:
    async def same(model: str) -> str:
        return model

    registry = SessionRegistry(same, 16, default_num_ctx=4096, calm=Calm())
    root = tmp_path / "workspace"
    root.mkdir()
    found = _Place(root, registry)
    found.save("a.txt", "the first file\n" * 10)
    found.save("b.txt", "the second file\n" * 10)
    yield found
    await registry.stop()


async def _ensure(session: Session, request: PrefixRequest = _WORKSPACE) -> PrefixStatus:
    return await session.ensure_prefix(request, Timings())


async def _watched(session: Session) -> PrefixStatus:
    """As `_ensure`, and wait until the files are watched: that begins with a look at everything."""
    status = await _ensure(session)
    await _until(session, lambda what: what == FilesChanged(()), lambda: None)
    assert session.workspace is not None
    while (await session.workspace.view()).keep_hot_state != "idle":  # noqa: ASYNC110 - nobody is told of a run that finds nothing
        await asyncio.sleep(0.01)
    return status


async def _until(session: Session, wanted: Callable[[What], bool], act: Callable[[], None]) -> list[What]:
    """What the session is told, from an act until what is wanted."""
    heard: list[What] = []
    with session.events.watch() as queue:
        act()
        async with asyncio.timeout(_PATIENCE_S):
            while not heard or not wanted(heard[-1]):
                event = await queue.get()
                assert event is not None
                heard.append(event.what)
    return heard


def _finished(what: What) -> bool:
    return isinstance(what, KeepHotRan) and what.phase == "finished"


def _beyond(tokens: int) -> Callable[[What], bool]:
    """Whether a run has computed more than so many tokens reach."""
    return lambda what: (
        isinstance(what, PrefillProgressed) and what.stage == STAGE and what.done_tokens > tokens
    )


def _phases(heard: list[What]) -> list[str]:
    return [what.phase for what in heard if isinstance(what, KeepHotRan)]


async def test_after_a_save_nothing_is_left_to_compute(place: _Place) -> None:
    session = await place.open()
    cold = await _watched(session)
    before = session.tokens
    heard = await _until(session, _finished, lambda: place.save("b.txt", "something else\n" * 10))
    assert "b.txt" in {path for what in heard if isinstance(what, FilesChanged) for path in what.paths}
    assert _phases(heard) == ["started", "finished"]
    [ran] = [what for what in heard if _finished(what)]
    assert isinstance(ran, KeepHotRan) and 0 < ran.prefilled_tokens < cold.prefix_tokens and ran.lag_ms > 0
    assert session.tokens == before  # it moves at its own next request, and not sooner
    warm = await _ensure(session)
    assert (warm.prefilled_tokens, warm.prefix_tokens) == (0, warm.reused_tokens)
    assert session.tokens != before


async def test_the_frame_of_the_next_question_is_hot_too(place: _Place) -> None:
    session = await place.open(prompt_format="chatml")
    await _watched(session)
    await _until(session, _finished, lambda: place.save("b.txt", "something else\n" * 10))
    await _ensure(session)
    framing = await session.engine.framing("chatml", ["system", "user"])
    status = await session.prefill_suffix(SuffixRequest("why?"), Timings())
    assert status.reused_tokens == len(framing.runs[1]) > 0


async def test_a_prefix_that_leaves_no_room_for_a_frame_is_kept_hot(place: _Place) -> None:
    place.save("b.txt", "")
    first = await place.open(prompt_format="chatml")
    whole = (await _watched(first)).prefix_tokens + 5
    session = await place.open(key="narrow", prompt_format="chatml", num_ctx=whole)
    full = PrefixRequest(workspace=True, max_tokens=whole)
    await _ensure(session, full)
    text = (place.root / "a.txt").read_text(encoding="utf-8")
    heard = await _until(session, _finished, lambda: place.save("a.txt", text + "12"))
    assert {what.total_tokens for what in heard if isinstance(what, PrefillProgressed)} == {whole}
    status = await _ensure(session, full)
    assert status.prefilled_tokens == 0 < status.prefix_tokens
    framing = await session.engine.framing("chatml", ["system", "user"])
    assert 0 < status.available_tokens < len(framing.runs[1])


async def test_a_request_takes_over_what_is_done(place: _Place) -> None:
    session = await place.open(_SLOW)
    cold = await _watched(session)
    whole = 2500
    heard = await _until(session, _beyond(cold.prefix_tokens), lambda: place.save("c.txt", "x" * whole))
    assert _phases(heard) == ["started"]
    status = await _ensure(session)
    assert status.prefix_tokens == len(session.tokens) > whole
    assert status.prefilled_tokens < whole
    assert (await _ensure(session)).prefilled_tokens == 0


async def test_a_newer_save_replaces_a_run_and_keeps_what_they_share(place: _Place) -> None:
    session = await place.open(_SLOW)
    cold = await _watched(session)
    shared = 2400
    await _until(session, _beyond(cold.prefix_tokens), lambda: place.save("c.txt", "x" * 2500))
    heard = await _until(session, _finished, lambda: place.save("c.txt", "x" * shared + "y" * 20))
    assert _phases(heard) == ["superseded", "started", "finished"]
    ran = heard[-1]
    assert isinstance(ran, KeepHotRan) and 0 < ran.prefilled_tokens < shared
    assert (await _ensure(session)).prefilled_tokens == 0


async def test_a_session_may_ask_for_none_of_it(place: _Place) -> None:
    session = await place.open()
    await _ensure(session, PrefixRequest(workspace=True, keep_hot=False))
    assert place.registry.workspaces.of(place.root)._watch is None
    place.save("b.txt", "something else\n" * 10)
    assert (await _watched(session)).prefilled_tokens > 0  # and from here on it does
    await _until(session, _finished, lambda: place.save("b.txt", "a third thing\n" * 10))
    await _ensure(session, PrefixRequest())
    assert place.registry.workspaces.of(place.root)._watch is None


async def test_two_sessions_are_served_by_one_run(place: _Place) -> None:
    one, two = await place.open(key="one"), await place.open(key="two")
    await _watched(one)
    await _ensure(two)
    heard = await _until(two, _finished, lambda: place.save("b.txt", "something else\n" * 10))
    assert _phases(heard) == ["started", "finished"]
    for session in (one, two):
        assert (await _ensure(session)).prefilled_tokens == 0


async def test_a_touch_computes_nothing(place: _Place) -> None:
    session = await place.open()
    await _watched(session)
    heard = await _until(
        session,
        lambda what: isinstance(what, FilesChanged),
        lambda: place.save("b.txt", (place.root / "b.txt").read_text(encoding="utf-8")),
    )
    heard += await _until(session, _finished, lambda: place.save("a.txt", "new"))
    assert _phases(heard) == ["started", "finished"]


async def test_what_sessions_leave_is_given_back(place: _Place) -> None:
    session = await place.open()
    await _watched(session)
    await _until(session, _finished, lambda: place.save("b.txt", "something else\n" * 10))
    engine = session.engine
    await place.registry.close(session.name)
    checked = await engine.check()
    assert checked.residence == {}
    assert place.registry.memory.records() == []
    names = {str(task.get_coro()) for task in asyncio.all_tasks()}
    assert not [name for name in names if "KeepHot." in name or "Workspace." in name]


async def test_who_needs_memory_ends_what_nobody_waits_for(place: _Place) -> None:
    session = await place.open(_SLOW)
    await _watched(session)
    memory, [record] = place.registry.memory, place.registry.memory.records()
    await _until(
        session, lambda what: _phases([what]) == ["started"], lambda: place.save("c.txt", "x" * 2500)
    )
    assert record.background and not record.turns
    assert await memory.give_way()
    assert not record.background
    status = await _ensure(session)  # takes its cells again
    assert status.prefix_tokens > 2500


async def test_while_the_machine_is_busy_it_waits(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = [""]
    monkeypatch.setattr(Calm, "disturbed", lambda _self: reasons[0])
    monkeypatch.setattr("sessiond.daemon.sessions.calm.LOOKS_EVERY_S", 0.01)
    session = await place.open()
    await _watched(session)
    reasons[0] = "the machine is busy"
    await _until(
        session,
        lambda what: isinstance(what, FilesChanged),
        lambda: place.save("b.txt", "something else\n" * 10),
    )
    await asyncio.sleep(0.05)
    view = await place.registry.workspaces.view(place.root)
    assert (view.watcher_state, view.keep_hot_state) == ("watching", "waiting")
    reasons[0] = ""
    await _until(session, _finished, lambda: None)


@contextlib.asynccontextmanager
async def _answering(session: Session) -> AsyncGenerator[None, None]:
    """While a turn runs, whose client is slow."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        async for _ in session.decode(DecodeRequest(Sampling(), 20), Timings()):
            begun.set()
            await over.wait()

    turn = asyncio.create_task(answer())
    try:
        await asyncio.wait_for(begun.wait(), _PATIENCE_S)
        yield
        assert not turn.done()
    finally:
        over.set()
        await turn


async def test_who_asks_at_once_is_not_kept_from_it(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessiond.daemon.sessions.hot.COURTESY_S", 10 * _PATIENCE_S)
    session, other = await place.open(), await place.open(key="other")
    await _watched(session)
    await _ensure(other)
    async with _answering(session):
        await _until(
            session,
            lambda what: isinstance(what, FilesChanged),
            lambda: place.save("b.txt", "something else\n" * 10),
        )
        await _ensure(
            other
        )  # which stands at the new prefix, and the frame of a question is still to be computed
        await asyncio.sleep(0.05)
        assert (await place.registry.workspaces.view(place.root)).keep_hot_state == "waiting"
    await _until(session, _finished, lambda: None)


async def test_a_long_answer_does_not_keep_it_waiting(place: _Place) -> None:
    session = await place.open()
    await _watched(session)
    async with _answering(session):
        await _until(session, _finished, lambda: place.save("b.txt", "something else\n" * 10))


async def test_where_it_is_switched_off_nothing_runs(tmp_path: Path) -> None:
    async def same(model: str) -> str:
        return model

    registry = SessionRegistry(same, 16, default_num_ctx=512, calm=None)
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    config = SessionConfig(prompt_format="raw")
    session, _ = await registry.open(OpenRequest(tmp_path, "scripted-kv:", "", config))
    await _ensure(session)
    view = await registry.workspaces.view(tmp_path)
    assert (view.watcher_state, view.keep_hot_state) == ("off", "off")
    await registry.stop()


async def test_the_view_shows_as_pinned_what_went_in_so(place: _Place) -> None:
    (place.root / ".sessiond.toml").write_text('pinned = ["b.txt", "gone.txt"]', encoding="utf-8")
    session = await place.open()
    await _ensure(session)
    view = await place.registry.workspaces.view(place.root)
    assert view.pinned == {"b.txt"}
    assert "gone.txt" in {left.path for left in view.left_out}


async def test_the_lag_counts_from_the_save(place: _Place) -> None:
    session = await place.open()
    await _watched(session)
    began = time.monotonic()
    heard = await _until(session, _finished, lambda: place.save("b.txt", "something else\n" * 10))
    [ran] = [what for what in heard if isinstance(what, KeepHotRan) and what.phase == "finished"]
    assert 0 < ran.lag_ms <= (time.monotonic() - began) * 1e3
