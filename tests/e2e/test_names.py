"""Sessions that are closed, unknown or not even named, and turns that come twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.e2e.turns import in_background, never_ending, wait_for_stage

from sessiond.client import Client, Config, InvalidInput, Session, SessionBusy, SessionClosed, SessionNotFound

CALLS: dict[str, Callable[[Session], Any]] = {
    "EnsurePrefix": lambda session: session.ensure_prefix("x"),
    "PrefillSuffix": lambda session: session.prefill_suffix("x"),
    "Decode": lambda session: list(session.decode(max_tokens=1)),
    "Complete": lambda session: list(session.complete("x", max_tokens=1)),
    "ForkSession": lambda session: session.fork(),
    "WatchSession": lambda session: list(session.watch(timeout=5)),
    "SaveSnapshot": lambda session: session.save_snapshot("/tmp/s"),
    "RestoreSnapshot": lambda session: session.restore_snapshot("/tmp/s"),
    "CloseSession": lambda session: session.close(),
}
LOOKS: dict[str, Callable[[Session], Any]] = {
    "GetSession": lambda session: session.info(),
    "ExplainContext": lambda session: session.explain(),
}


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Slow enough to be caught at work."""
    return "scripted-kv:num_ctx=2048,step_ms=20"


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_session(session: Session, call: str) -> None:
    session.close()
    with pytest.raises(SessionClosed) as caught:
        CALLS[call](session)
    assert caught.value.metadata() == {"name": session.name}


@pytest.mark.parametrize("look", LOOKS)
def test_a_closed_session_can_still_be_looked_at(session: Session, look: str) -> None:
    session.close()
    LOOKS[look](session)
    assert session.explain().closed


@pytest.mark.parametrize("call", [*CALLS, *LOOKS])
def test_an_unknown_session(client: Client, call: str) -> None:
    unknown = client.session("sessions/0123456789abcdef")
    with pytest.raises(SessionNotFound) as caught:
        (CALLS | LOOKS)[call](unknown)
    assert caught.value.metadata() == {"name": unknown.name}


@pytest.mark.parametrize("call", [*CALLS, *LOOKS])
@pytest.mark.parametrize(
    "name",
    ["sessions/", "sessions/a/b", "nonsense/x", "sessions/..", "sessions/a\n", "sessions/" + "a" * 65, "/"],
)
def test_a_malformed_name(client: Client, call: str, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        (CALLS | LOOKS)[call](client.session(name))
    assert [violation.field for violation in caught.value.violations] == ["name"]


@pytest.fixture
def decoding(client: Client, session: Session) -> Iterator[Session]:
    """A session in the middle of a long answer."""
    session.ensure_prefix("xxxx")
    with session.decode(max_tokens=1000, logit_bias=never_ending(client)) as chunks:
        next(chunks)
        reader = threading.Thread(target=lambda: list(chunks))
        reader.start()
        yield session
        chunks.close()
        reader.join()


@pytest.mark.parametrize("call", ["EnsurePrefix", "PrefillSuffix", "Decode", "Complete"])
def test_a_second_turn_at_once_is_refused(decoding: Session, call: str) -> None:
    before = decoding.explain().busy.done_tokens
    with pytest.raises(SessionBusy) as caught:
        CALLS[call](decoding)
    assert caught.value.metadata() == {"name": decoding.name}
    busy = decoding.explain().busy
    assert busy.stage == "decode" and busy.done_tokens >= before, "the first turn goes on"


def test_another_session_works_beside_a_busy_one(client: Client, decoding: Session) -> None:
    other = client.open_session(key="beside", config=Config(prompt_format="raw"))
    assert other.ensure_prefix("zzzz").status.prefix_tokens == 4
    assert decoding.explain().busy.stage == "decode"
    other.close()


def test_a_busy_session_says_so(client: Client, session: Session) -> None:
    with in_background(lambda: session.ensure_prefix("x" * 2000)):
        wait_for_stage(session, "prefix")
        assert session.info().state == 2  # busy
        assert [each.state for each in client.sessions() if each.name == session.name] == [2]
    assert session.info().state == 1
