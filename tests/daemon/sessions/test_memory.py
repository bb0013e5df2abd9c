"""Memory as a budget: the idle workspace gives its cells back, the running one never does, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import PrefixStatus, Timings
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import SessionUnavailable

WINDOW = 128
ROOM = 3 * WINDOW * CELL_BYTES
"""Bytes: an arena of two windows and one of a single window."""


async def _same(model: str) -> str:
    return model or "scripted-kv:step_ms=5"


@pytest_asyncio.fixture
async def registry() -> AsyncGenerator[SessionRegistry, None]:
    """One whose memory is `ROOM` for cells, and enough beside them."""
    made = SessionRegistry(_same, 8, memory=KvMemory(ROOM, lambda: 1 << 40), tiers=Tiers(memory=1 << 30))
    yield made
    await made.stop()


async def _open(registry: SessionRegistry, root: str) -> Session:
    config = SessionConfig(context=ContextSettings(num_ctx=WINDOW, num_ubatch=4), prompt_format="raw")
    session, _ = await registry.open(OpenRequest(Path(root), "", "", config))
    return session


async def _ensure(session: Session, text: str) -> PrefixStatus:
    return await session.ensure_prefix(PrefixRequest((Segment("a", "text", text),)), Timings())


def _cells(registry: SessionRegistry) -> dict[str, int]:
    return {record.root: record.cells for record in registry.memory.records()}


async def test_an_arena_takes_two_windows_or_what_is_left(registry: SessionRegistry) -> None:
    for root in ("/one", "/two"):
        await _open(registry, root)
    assert _cells(registry) == {"/one": 2 * WINDOW, "/two": WINDOW}
    assert registry.memory.taken == ROOM
    assert registry.memory.free() == 0


async def test_the_one_that_was_idle_for_longest_gives_way_and_loses_nothing(
    registry: SessionRegistry,
) -> None:
    one, two = await _open(registry, "/one"), await _open(registry, "/two")
    await _ensure(one, "A" * 60)
    await _ensure(two, "B" * 60)
    three = await _open(registry, "/three")
    assert _cells(registry) == {"/one": 0, "/two": WINDOW, "/three": 2 * WINDOW}
    assert (one.resident_tokens, one.report().memory_by_segment) == (0, (60,))
    assert two.resident_tokens == 60
    await _ensure(three, "C" * 60)
    # It comes back when it is asked, in the place of the one that is idle for longest now.
    status = await _ensure(one, "A" * 60)
    assert (status.reused_tokens, status.restored_tokens, status.prefilled_tokens) == (0, 60, 0)
    assert _cells(registry)["/one"] > 0
    assert registry.memory.taken <= ROOM


async def test_running_turns_are_left_alone(registry: SessionRegistry) -> None:
    one, two = await _open(registry, "/one"), await _open(registry, "/two")
    for session in (one, two):
        await _ensure(session, "A")

    async def answer(session: Session) -> int:
        asked = DecodeRequest(Sampling(logit_bias=()), 60)
        return sum([len(chunk.token_ids) async for chunk in session.decode(asked, Timings())])

    running = [asyncio.create_task(answer(session)) for session in (one, two)]
    await asyncio.sleep(0.05)
    with pytest.raises(SessionUnavailable, match="bytes"):
        await _open(registry, "/three")
    assert all(count > 0 for count in await asyncio.gather(*running))
    await _open(registry, "/three")


async def test_what_can_never_fit_is_refused(registry: SessionRegistry) -> None:
    config = SessionConfig(context=ContextSettings(num_ctx=4 * WINDOW))
    with pytest.raises(SessionUnavailable):
        await registry.open(OpenRequest(Path("/big"), "", "", config))
    assert registry.all() == []


async def test_a_closed_workspace_takes_nothing(registry: SessionRegistry) -> None:
    session = await _open(registry, "/one")
    await registry.close(session.name)
    await _open(registry, "/two")
    assert _cells(registry) == {"/two": 2 * WINDOW}


async def test_a_dead_engine_takes_nothing(registry: SessionRegistry) -> None:
    session = await _open(registry, "/one")
    session.engine.process.kill(9)
    await session.engine.process._watch
    assert registry.memory.records() == []


async def test_opens_at_once_do_not_count_on_the_same_bytes(registry: SessionRegistry) -> None:
    await asyncio.gather(*(_open(registry, root) for root in ("/one", "/two", "/three")))
    assert registry.memory.taken <= ROOM
    assert set(_cells(registry)) == {"/one", "/two", "/three"}


async def test_turns_that_wake_at_once_do_not_count_on_the_same_bytes(registry: SessionRegistry) -> None:
    one = await _open(registry, "/one")
    two = await _open(registry, "/two")
    while await registry.memory.give_way():
        pass
    three = await _open(registry, "/three")
    assert _cells(registry) == {"/one": 0, "/two": 0, "/three": 2 * WINDOW}
    outcomes = await asyncio.gather(
        *(_ensure(session, "A" * 60) for session in (one, two, three)), return_exceptions=True
    )
    assert registry.memory.taken <= ROOM
    for outcome in outcomes:
        assert isinstance(outcome, PrefixStatus | SessionUnavailable), outcome
    assert not all(isinstance(outcome, SessionUnavailable) for outcome in outcomes)


async def test_what_moves_after_a_turn_was_cut_short_is_not_taken_for_the_session(
    registry: SessionRegistry,
) -> None:
    """Its branch stands on another way then."""
    session = await _open(registry, "/one")
    await _ensure(session, "A" * 20)
    job = asyncio.create_task(_ensure(session, "A" * 8 + "B" * 60))
    await asyncio.sleep(0.05)
    job.cancel()
    await asyncio.wait([job])
    assert session.resident_tokens == 8
    await registry.memory.give_way()
    report = session.report()
    assert (report.resident_tokens, sum(report.memory_by_segment)) == (0, 8)
    assert (await _ensure(session, "A" * 20)).prefilled_tokens <= 12
