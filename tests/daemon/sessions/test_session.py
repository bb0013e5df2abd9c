"""A session's turns: what they report, what they leave behind, and how they end."""

from __future__ import annotations

import asyncio

import pytest
from tests.daemon.engine.scripted import fresh_answer
from tests.daemon.sessions.conftest import Opener

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.sessions.events import Faulted, PrefillProgressed, StateChanged, engine_restarted
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, SuffixStatus, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import (
    ContextOverflow,
    InvalidInput,
    ManifestMismatch,
    SessionBusy,
    SessionClosed,
)


def _asked(*texts: str) -> PrefixRequest:
    return PrefixRequest(tuple(Segment(f"s{i}", "file", text, f"s{i}") for i, text in enumerate(texts)))


async def _ensure(session: Session, *texts: str) -> PrefixStatus:
    status = await session.ensure_prefix(_asked(*texts), Timings())
    assert status.reused_tokens + status.restored_tokens + status.prefilled_tokens == status.prefix_tokens
    assert status.resident_tokens == session.resident_tokens == session.prefix_tokens == status.prefix_tokens
    return status


async def _answer(session: Session, most: int) -> list[int]:
    chunks = [c async for c in session.decode(DecodeRequest(Sampling(), most), Timings())]
    assert chunks[-1].summary is not None and all(c.summary is None for c in chunks[:-1])
    tokens = [token for chunk in chunks for token in chunk.token_ids]
    assert chunks[-1].summary.generated_tokens == len(tokens)
    return tokens


async def test_an_edit_and_its_undo(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    first = await _ensure(session, "AAAA", "BBBB", "CCCC")
    assert (first.prefilled_tokens, first.dropped_tokens) == (12, 0)
    edit = await _ensure(session, "AAAA", "BXBB", "CCCC")
    assert (edit.reused_tokens, edit.prefilled_tokens, edit.dropped_tokens) == (5, 7, 7)
    miss = session.report().last_miss
    assert miss is not None and (miss.cause, miss.segment_id, miss.byte_offset) == ("changed", "s1", 1)
    undo = await _ensure(session, "AAAA", "BBBB", "CCCC")
    assert (undo.reused_tokens, undo.prefilled_tokens) == (12, 0)
    assert session.report().last_miss is None


async def test_an_answer_after_an_undo_of_the_same_length_is_the_cold_one(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    for last in ("CC", "DD", "CC"):
        await _ensure(session, "AAAA", last)
    assert await _answer(session, 6) == fresh_answer(list(b"AAAACC"), 6)


async def test_an_answer_becomes_part_of_the_session(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    tokens = await _answer(session, 6)
    assert session.tokens == list(b"AAAA") + tokens
    more = await _answer(session, 6)
    assert tokens + more == fresh_answer(list(b"AAAA"), 12)[: len(tokens + more)]
    report = session.report()
    assert (report.prefix_tokens, report.suffix_tokens) == (4, len(tokens + more))
    assert report.resident_tokens == len(session.tokens)


async def test_what_does_not_fit_changes_nothing(opened: Opener) -> None:
    session = await opened(prompt_format="raw", context=ContextSettings(num_ctx=16))
    await _ensure(session, "A" * 10)
    with pytest.raises(ContextOverflow) as raised:
        await _ensure(session, "B" * 17)
    assert (raised.value.stage, raised.value.additional_tokens, raised.value.num_ctx) == ("prefix", 17, 16)
    with pytest.raises(ContextOverflow) as raised:
        await session.prefill_suffix(SuffixRequest("C" * 7), Timings())
    assert (raised.value.stage, raised.value.resident_tokens, raised.value.additional_tokens) == (
        "suffix",
        10,
        7,
    )
    with pytest.raises(ContextOverflow) as raised:
        await _answer(session, 7)
    assert raised.value.stage == "decode"
    assert session.tokens == [65] * 10 and session.resident_tokens == 10
    assert len(await _answer(session, 0)) <= 6
    await _ensure(session, "B" * 16)  # it fits exactly


async def test_a_prefix_that_fills_the_window(opened: Opener) -> None:
    session = await opened(prompt_format="raw", context=ContextSettings(num_ctx=16))
    assert (await _ensure(session, "B" * 16)).available_tokens == 0


async def test_a_prefix_that_leaves_no_room_to_warm_it(opened: Opener) -> None:
    """A backend that takes prompts warms by one token of an answer. What is refused for that is told as it was."""
    session = await opened("scripted-prompt:", prompt_format="raw", context=ContextSettings(num_ctx=16))
    [outcome] = await asyncio.gather(_ensure(session, "B" * 16), return_exceptions=True)
    if isinstance(outcome, ContextOverflow):
        assert (outcome.stage, outcome.additional_tokens) == ("prefix", 16)
    else:
        assert isinstance(outcome, PrefixStatus) and outcome.available_tokens == 0


async def test_nothing_to_go_on_from(opened: Opener) -> None:
    session = await opened()
    with pytest.raises(InvalidInput):
        await _answer(session, 3)


async def test_an_expectation_is_checked_before_anything_changes(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    wrong = PrefixRequest(_asked("BBBB").segments, expect={"digest": "old"})
    with pytest.raises(ManifestMismatch):
        await session.ensure_prefix(wrong, Timings())
    with pytest.raises(ManifestMismatch):
        await session.prefill_suffix(SuffixRequest("x", expect={}), Timings())
    assert session.tokens == list(b"AAAA")
    right = session.report().manifest.flat()
    await session.prefill_suffix(SuffixRequest("x", expect=right), Timings())


async def test_a_turn_in_three_parts(opened: Opener) -> None:
    session = await opened()
    parts: list[object] = [
        part
        async for part in session.complete(
            _asked("AAAA"), SuffixRequest("hello"), DecodeRequest(Sampling(), 3), Timings()
        )
    ]
    assert [type(part) for part in parts[:2]] == [PrefixStatus, SuffixStatus]
    assert all(isinstance(part, Chunk) for part in parts[2:])


async def test_a_cancelled_prefill_goes_on_where_it_was(opened: Opener) -> None:
    session = await opened(
        "scripted-kv:step_ms=20", prompt_format="raw", context=ContextSettings(num_ubatch=2)
    )
    job = asyncio.create_task(_ensure(session, "A" * 100))
    await asyncio.sleep(0.3)
    assert session.state == "busy"
    job.cancel()
    await asyncio.wait([job])
    assert session.state == "ready"
    assert session.tokens == [] and session.resident_tokens == 0
    status = await _ensure(session, "A" * 20)
    assert status.reused_tokens > 0


async def test_a_cancelled_answer_keeps_what_was_computed(opened: Opener) -> None:
    session = await opened("scripted-kv:step_ms=20", prompt_format="raw")
    await _ensure(session, "AAAA")
    got: list[int] = []

    async def listen() -> None:
        async for chunk in session.decode(DecodeRequest(Sampling(), 100), Timings()):
            got.extend(chunk.token_ids)

    job = asyncio.create_task(listen())
    await asyncio.sleep(0.25)
    job.cancel()
    await asyncio.wait([job])
    tail = session.tokens[4:]
    assert got and tail[: len(got)] == got
    assert tail == fresh_answer(list(b"AAAA"), len(tail))
    # The last one may have been sent and not yet computed.
    assert session.resident_tokens in (len(session.tokens) - 1, len(session.tokens))
    assert (await _ensure(session, "AAAA")).prefilled_tokens == 0


async def test_what_moves_before_a_turn_has_heard_its_end_counts(opened: Opener) -> None:
    """The end of a job and that others took its cells may come in one piece."""
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    async for chunk in session.decode(DecodeRequest(Sampling(), 5), Timings()):
        if chunk.summary is not None:
            session._moved(2, 1)
    assert session.resident_tokens == 2
    assert (await _ensure(session, "AAAA")).resident_tokens == session.resident_tokens == 4


async def test_another_turn_is_refused_and_a_report_is_not(opened: Opener) -> None:
    session = await opened(
        "scripted-kv:step_ms=20", prompt_format="raw", context=ContextSettings(num_ubatch=1)
    )
    job = asyncio.create_task(_ensure(session, "A" * 60))
    await asyncio.sleep(0.1)
    with pytest.raises(SessionBusy):
        await session.prefill_suffix(SuffixRequest("x"), Timings())
    busy = session.report().busy
    assert busy is not None and busy.stage == "prefix" and 0 < busy.done_tokens < busy.total_tokens == 60
    await job
    assert session.report().busy is None


async def test_a_close_ends_the_running_turn_with_its_reason(
    opened: Opener, registry: SessionRegistry
) -> None:
    session = await opened(
        "scripted-kv:step_ms=20", prompt_format="raw", context=ContextSettings(num_ubatch=1)
    )
    job = asyncio.create_task(_ensure(session, "A" * 200))
    await asyncio.sleep(0.1)
    await registry.close(session.name)
    with pytest.raises(SessionClosed):
        await job
    assert session.state == "closed"


async def test_a_close_while_the_reader_of_an_answer_is_elsewhere(
    opened: Opener, registry: SessionRegistry
) -> None:
    """A slow client: the reader waits for the network, not for the engine. It is told at its next step, and what
    it does meanwhile is not the session's to cancel.
    """
    session = await opened(prompt_format="raw")
    await _ensure(session, "AAAA")
    network = asyncio.Event()

    async def read() -> str:
        try:
            async for _ in session.decode(DecodeRequest(Sampling(), 20), Timings()):
                await network.wait()
        except SessionClosed:
            return "told"
        return "not told"

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    await registry.close(session.name)
    network.set()
    await asyncio.wait([reader])
    assert not reader.cancelled()
    assert reader.result() == "told"


@pytest.mark.parametrize("running", [True, False])
async def test_a_death_is_neither_the_turn_s_error_nor_a_cancel(opened: Opener, running: bool) -> None:
    session = await opened(
        "scripted-kv:step_ms=20", prompt_format="raw", context=ContextSettings(num_ubatch=1)
    )
    if not running:
        session.engine.process.on_end = lambda _died: None  # nobody told the session

    async def turn() -> bool:
        assert (await _ensure(session, "A" * 100)).prefilled_tokens == 100
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    if running:
        job = asyncio.create_task(turn())
        await asyncio.sleep(0.1)
        session.engine.process.kill(9)
    else:
        session.engine.process.kill(9)
        await session.engine.process._watch
        job = asyncio.create_task(turn())
    await asyncio.wait([job])
    assert not job.cancelled()
    assert job.result() is False
    assert (session.state, session.tokens) == ("ready", [65] * 100)


async def test_who_watches_hears_it_all(opened: Opener, registry: SessionRegistry) -> None:
    session = await opened(prompt_format="raw", context=ContextSettings(num_ubatch=2))
    with session.events.watch() as queue:
        await _ensure(session, "AAAA")
        await registry.close(session.name)
        told: list[object] = []
        while (event := queue.get_nowait()) is not None:
            told.append(event.what)
    assert told == [
        StateChanged("busy"),
        PrefillProgressed("prefix", 0, 4),
        PrefillProgressed("prefix", 2, 4),
        PrefillProgressed("prefix", 4, 4),
        StateChanged("ready"),
        StateChanged("closed"),
    ]


async def test_who_watches_an_idle_session_hears_of_a_death_and_of_the_next_engine(opened: Opener) -> None:
    session = await opened()
    with session.events.watch() as queue:
        session.engine.process.kill(9)
        async with asyncio.timeout(20):
            died, next_one = [await queue.get() for _ in range(2)]
        assert died is not None and isinstance(died.what, Faulted) and "SIGKILL" in died.what.message
        assert next_one is not None and next_one.what == engine_restarted()
        await _ensure(session, "AAAA")  # and goes on hearing
        assert queue.get_nowait() is not None


async def test_over_a_backend_with_a_cache_of_its_own(opened: Opener) -> None:
    session = await opened("scripted-prompt:", prompt_format="raw")
    assert (await _ensure(session, "AAAA", "BBBB")).reuse_source == "reported"
    assert (await _ensure(session, "AAAA", "CCCC")).reused_tokens == 4
    assert await _answer(session, 5) == fresh_answer(list(b"AAAACCCC"), 5)
