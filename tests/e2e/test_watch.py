"""WatchSession, and Complete as one atomic turn."""

from __future__ import annotations

import pytest
from tests.e2e.turns import in_background, wait_for_stage

from sessiond.client import Client, Session, SessionBusy
from sessiond.v1 import session_service_pb2 as pb


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Slow enough to be watched."""
    return "scripted-kv:num_ctx=2048,step_ms=20"


def _events_of(session: Session, client: Client) -> list[pb.SessionEvent]:
    """All events of a prefill, an edit and the close."""
    seen: list[pb.SessionEvent] = []

    def watch() -> None:
        for event in session.watch(timeout=60):
            seen.append(event)  # noqa: PERF402 - each as it comes

    with in_background(watch) as watching:
        other = client.session(session.name)
        while not seen:  # until the watch is on
            other.ensure_prefix("z")
            other.ensure_prefix()
        other.ensure_prefix("x" * 1000)
        other.ensure_prefix("x" * 500 + "y" * 500)
        other.close()
        watching.result(20)
    return seen


def test_it_shows_progress_and_ends_when_the_session_closes(client: Client, session: Session) -> None:
    events = _events_of(session, client)
    progress = [event.prefill_progress for event in events if event.HasField("prefill_progress")]
    whole = [told for told in progress if told.total_tokens == 1000]
    assert len(whole) > 10
    assert whole[-1].done_tokens == 1000
    assert {told.stage for told in progress} == {"prefix"}
    assert all(0 <= told.done_tokens <= told.total_tokens for told in progress)
    misses = [event.invalidation.miss for event in events if event.HasField("invalidation")]
    assert (misses[-1].cause, misses[-1].token_index, misses[-1].byte_offset) == ("changed", 500, 500)
    assert misses[-1].cost_tokens == 500
    assert events[-1].state == pb.SESSION_STATE_CLOSED
    assert [event.time_ms for event in events] == sorted(event.time_ms for event in events)


def test_it_tells_of_busy_and_ready(client: Client, session: Session) -> None:
    states = [event.state for event in _events_of(session, client) if event.WhichOneof("event") == "state"]
    assert states[0] in {pb.SESSION_STATE_BUSY, pb.SESSION_STATE_READY}
    assert pb.SESSION_STATE_BUSY in states and pb.SESSION_STATE_READY in states
    assert states[-1] == pb.SESSION_STATE_CLOSED


def test_a_complete_is_one_atomic_turn(session: Session) -> None:
    """Others try all the time, and none of them comes in between its parts. Of its text nobody else has left anything."""
    with in_background(
        lambda: list(session.complete("%" * 500, prefix="#" * 700, max_tokens=20, seed=1))
    ) as running:
        wait_for_stage(session, "prefix")
        refused = 0
        while not running.done():
            try:
                session.ensure_prefix("zz", timeout=20)
            except SessionBusy:
                refused += 1
            else:
                assert running.done(), "another turn came in between"
                break
    assert refused > 0
    events = running.result()
    assert [event.WhichOneof("event") for event in events[:3]] == ["prefix_status", "suffix_status", "chunk"]
    assert {event.WhichOneof("event") for event in events[3:]} == {"chunk"}
    prefix, suffix, last = events[0].prefix_status, events[1].suffix_status, events[-1].chunk.summary
    assert (prefix.prefix_tokens, suffix.prefix_tokens, suffix.resident_tokens) == (700, 700, 1200)
    assert last.timings.total_ms >= last.timings.first_token_ms > 0
    assert sum(len(event.chunk.token_ids) for event in events) == last.generated_tokens


def test_a_complete_without_a_prefix_keeps_it(session: Session) -> None:
    session.ensure_prefix("x" * 50)
    events = list(session.complete("yy", max_tokens=1))
    assert events[0].WhichOneof("event") == "suffix_status"
    assert session.explain().prefix_tokens == 50
