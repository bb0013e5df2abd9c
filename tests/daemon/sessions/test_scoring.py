"""Scores leave a session as it is, whatever becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from tests.daemon.engine.scripted import kv_context, load
from tests.daemon.sessions.conftest import Opener

from sessiond.adapters.base import ContextSettings, Run
from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.lanes import AT_ONCE, lanes
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.scoring import Continuation, score
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Timings
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import (
    ContextOverflow,
    InvalidInput,
    SessionBusy,
    SessionClosed,
    SessionUnavailable,
    UnsupportedFeature,
)

_FRESH = load("scripted-kv:")


def _naive(tokens: Sequence[int], more: Sequence[int]) -> tuple[float, ...]:
    context = kv_context(_FRESH)
    new, found = list(tokens), list[float]()
    for token in more:
        context.decode([Run(0, context.end(0), new, want_logits=1)])
        found.append(context.likely(0, token, 1).taken[1])
        new = [token]
    return tuple(found)


@pytest_asyncio.fixture
async def remembering() -> AsyncGenerator[Opener, None]:
    """Opens sessions whose engines keep in memory what has no cells."""

    async def same(model: str) -> str:
        return model

    registry = SessionRegistry(same, 4, default_num_ctx=512, tiers=Tiers(memory=1 << 20))

    async def open_one(model: str, **config: Any) -> Session:
        return (await registry.open(OpenRequest(None, model, "", SessionConfig(**config))))[0]

    yield open_one
    await registry.stop()


async def _ensure(session: Session, text: str) -> None:
    await session.ensure_prefix(PrefixRequest((Segment("text", "text", text),)), Timings())


async def _branches(session: Session) -> set[str]:
    return set((await session.engine.check()).residence)


async def test_each_is_scored_as_if_alone_and_in_the_order_given(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    before = session.report()
    texts = ["XYZ", "X", "XYZ", *(f"{index:03}" for index in range(2 * AT_ONCE))]
    found = await score(session, texts, Timings())
    for text, one in zip(texts, found, strict=True):
        assert b"".join(one.pieces) == text.encode()
        assert one.logprobs == _naive(b"AAAA", one.token_ids)
    assert session.report() == before
    assert await _branches(session) == {session.id}


async def test_a_session_whose_cells_were_given_back_is_computed_for_it(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    await session.engine.park(session.home.arena)
    assert session.resident_tokens == 0
    [one] = await score(session, ["XYZ"], Timings())
    assert one.logprobs == _naive(b"AAAA", b"XYZ")


async def test_what_it_brings_back_is_told_of(remembering: Opener) -> None:
    session = await remembering("scripted-kv:step_ms=5", prompt_format="raw")
    await _ensure(session, "A" * 100)
    await session.engine.park(session.home.arena)
    assert session.resident_tokens == 0
    [one] = await score(session, ["XYZ" * 40], Timings())
    assert one.logprobs == _naive(b"A" * 100, b"XYZ" * 40)
    resident, _ = (await session.engine.check()).residence[session.id]
    assert session.resident_tokens == resident == 100


async def test_what_moves_meanwhile_is_told_of(opened: Opener) -> None:
    session = await opened("scripted-kv:step_ms=20", prompt_format="raw")
    await _ensure(session, "AAAA")
    running = await _long_one(session)
    session._moved(0, 0)
    assert session.resident_tokens == 0, "others took its cells"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_texts_that_were_scored_are_kept_nowhere(remembering: Opener) -> None:
    session = await remembering("scripted-kv:step_ms=5", prompt_format="raw")
    await _ensure(session, "A" * 100)
    await score(session, [f"{index:03}" * 20 for index in range(2 * AT_ONCE)], Timings())
    assert await _only(session)
    await session.engine.park(session.home.arena)
    kept = (await session.engine.check()).memory_tier
    assert 0 < kept <= 110 * session.home.cell_bytes


async def test_what_does_not_fit_is_refused_before_anything_is_computed(opened: Opener) -> None:
    session = await opened(prompt_format="raw", context=ContextSettings(num_ctx=16))
    await _ensure(session, "A" * 10)
    before = session.report()
    [fits] = await score(session, ["B" * 6], Timings())
    assert fits.logprobs == _naive(b"A" * 10, b"B" * 6)
    with pytest.raises(ContextOverflow) as raised:
        await score(session, ["B", "B" * 7], Timings())
    assert (raised.value.stage, raised.value.resident_tokens) == ("score", 10)
    assert (raised.value.additional_tokens, raised.value.num_ctx) == (7, 16)
    assert session.report() == before


@pytest.mark.parametrize("sequences", [2, 3, 4])
async def test_what_has_no_room_beside_others_has_it_alone(opened: Opener, sequences: int) -> None:
    model = f"scripted-kv:max_sequences={sequences},num_cells=128"
    session = await opened(model, prompt_format="raw", context=ContextSettings(num_ctx=64))
    await _ensure(session, "A" * 40)
    for _ in range(2):
        texts = [f"{index:02}" * 10 for index in range(2 * AT_ONCE)]
        for one in await score(session, texts, Timings()):
            assert one.logprobs == _naive(b"A" * 40, one.token_ids)
    assert await _branches(session) == {session.id}


async def test_where_others_hold_the_room_it_is_no_overflow_of_the_window(opened: Opener) -> None:
    session = await opened(
        "scripted-kv:max_sequences=1", prompt_format="raw", context=ContextSettings(num_ctx=64)
    )
    await _ensure(session, "A" * 40)
    before = session.report()
    await score(session, ["B" * 20], Timings())
    with pytest.raises(SessionUnavailable):
        await score(session, ["B" * 20], Timings())
    assert session.report() == before


async def test_no_more_run_at_once_than_there_are_cells_for(opened: Opener) -> None:
    session = await opened(prompt_format="raw", context=ContextSettings(num_ctx=64, num_cells=128))
    assert [lanes(session.home, 40, each) for each in (1, 10, 11, 29, 30, 88, 89)] == [8, 8, 8, 3, 2, 1, 1]


async def test_nothing_to_go_on_from(opened: Opener) -> None:
    with pytest.raises(InvalidInput) as raised:
        await score(await opened(prompt_format="raw"), ["X"], Timings())
    assert [violation.field for violation in raised.value.violations] == ["name"]


async def test_a_backend_without_logits_says_so(opened: Opener) -> None:
    session = await opened("scripted-prompt:", prompt_format="raw")
    await _ensure(session, "AAAA")
    with pytest.raises(UnsupportedFeature) as raised:
        await score(session, ["X"], Timings())
    assert raised.value.feature == "logprobs"


async def _only(session: Session) -> bool:
    """Whether no branch but the session's is left, once one that was being opened is closed again."""
    for _ in range(200):
        if await _branches(session) <= {session.id}:
            return True
        await asyncio.sleep(0.01)
    return False


async def _long_one(session: Session) -> asyncio.Task[list[Continuation]]:
    """A score that takes seconds, once it has begun to compute."""
    running = asyncio.create_task(score(session, [f"{index:03}" * 80 for index in range(40)], Timings()))
    for _ in range(5000):
        busy = session.report().busy
        if busy is not None and busy.stage == "score" and busy.total_tokens:
            return running
        await asyncio.sleep(0.001)
    raise AssertionError("it never began")


async def test_it_is_a_turn(opened: Opener) -> None:
    session = await opened("scripted-kv:step_ms=20", prompt_format="raw")
    await _ensure(session, "AAAA")
    running = await _long_one(session)
    with pytest.raises(SessionBusy):
        await _ensure(session, "B")
    with pytest.raises(SessionBusy):
        await score(session, ["X"], Timings())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_a_cancel_leaves_nothing_behind(opened: Opener) -> None:
    session = await opened("scripted-kv:step_ms=20", prompt_format="raw")
    await _ensure(session, "AAAA")
    before = session.report()
    running = await _long_one(session)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await _only(session)
    assert session.report() == before
    [one] = await score(session, ["XYZ"], Timings())
    assert one.logprobs == _naive(b"AAAA", b"XYZ")


async def test_a_session_that_is_closed_ends_it(opened: Opener) -> None:
    session = await opened("scripted-kv:step_ms=20", prompt_format="raw")
    other = await opened("scripted-kv:step_ms=20", "other", prompt_format="raw")
    await _ensure(session, "AAAA")
    running = await _long_one(session)
    await session.close()
    with pytest.raises(SessionClosed):
        await running
    assert await _only(other)


async def test_an_engine_that_dies_is_outlived(opened: Opener) -> None:
    session = await opened("scripted-kv:step_ms=5", prompt_format="raw")
    await _ensure(session, "AAAA")
    running = await _long_one(session)
    session.engine.process.kill(9)
    found = await running
    for one in found:
        assert one.logprobs == _naive(b"AAAA", one.token_ids)
    assert (session.state, session.tokens) == ("ready", list(b"AAAA"))
    assert await _only(session)
