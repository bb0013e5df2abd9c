"""Engines that die: typed errors for those they served, a new engine for the next ones, and a daemon that lives."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.e2e.daemon import Daemon, eventually, is_gone
from tests.e2e.turns import answers, in_background, never_ending, wait_for_stage
from tests.e2e.wire import RPCS, info_of, send, status_of

from sessiond.client import Client, Config, Session, SessionFatal, SessionUnavailable
from sessiond.v1 import errors_pb2
from sessiond.v1 import session_service_pb2 as pb

LONG = "The quick brown fox jumps over the lazy dog. " * 150
SIGNALS = (signal.SIGKILL, signal.SIGSEGV)

OTHERS: dict[str, Callable[[Session], Any]] = {
    "EnsurePrefix": lambda session: session.ensure_prefix("x"),
    "PrefillSuffix": lambda session: session.prefill_suffix("x"),
    "Decode": lambda session: list(session.decode(max_tokens=1)),
    "Complete": lambda session: list(session.complete("x", max_tokens=1)),
    "ForkSession": lambda session: session.fork(),
    "SaveSnapshot": lambda session: session.save_snapshot("/tmp/s"),
    "RestoreSnapshot": lambda session: session.restore_snapshot("/tmp/s"),
    "WatchSession": lambda session: list(session.watch(timeout=5)),
}


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Slow enough to be killed at work."""
    return "scripted-kv:num_ctx=2048,step_ms=50"


def _prefill(session: Session, _client: Client) -> None:
    session.ensure_prefix(LONG[:2000], timeout=60)


def _prefill_all(session: Session, _client: Client) -> None:
    session.ensure_prefix(LONG, timeout=60)


def _decode(session: Session, client: Client) -> None:
    session.ensure_prefix("xx")
    list(session.decode(timeout=60, logit_bias=never_ending(client)))


def _dies(
    daemon: Daemon,
    session: Session,
    number: signal.Signals,
    stage: str,
    work: Callable[[Session, Client], None],
) -> None:
    client = daemon.client
    old = daemon.engine_pid()
    with in_background(lambda: work(session, client)) as running:
        wait_for_stage(session, stage, done=2)
        os.kill(old, number)
        with pytest.raises(SessionFatal) as caught:
            running.result(30)
    assert number.name in caught.value.cause
    assert caught.value.metadata() == {"cause": caught.value.cause}
    assert client.healthy()
    report = session.explain()
    assert report.fatal_cause == caught.value.cause
    assert not report.HasField("busy") and not report.closed
    assert (report.resident_tokens, report.kv_bytes) == (0, 0)
    assert session.info().state == pb.SESSION_STATE_FATAL
    with pytest.raises(SessionFatal) as again:
        session.ensure_prefix("x")
    assert again.value.cause == caught.value.cause
    opened = client.open_session(key=session.info().key, config=Config(num_ctx=2048))
    assert not opened.attached and opened.name != session.name
    answers(opened)
    assert daemon.engine_pid() != old
    eventually(lambda: is_gone(old), "the old engine is gone")
    opened.close()
    session.close()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("stage", "work"), [("prefix", _prefill), ("decode", _decode)])
def test_an_engine_that_is_killed_at_work(
    daemon: Daemon, number: signal.Signals, stage: str, work: Callable[[Session, Client], None]
) -> None:
    session = daemon.client.open_session(key=f"{number}{stage}", config=Config(num_ctx=2048))
    _dies(daemon, session, number, stage, work)


@pytest.mark.model
@pytest.mark.parametrize(
    ("number", "stage", "work"),
    [(signal.SIGSEGV, "prefix", _prefill_all), (signal.SIGKILL, "decode", _decode)],
)
def test_a_real_engine_that_is_killed_at_work(
    real_daemon: Daemon, number: signal.Signals, stage: str, work: Callable[[Session, Client], None]
) -> None:
    session = real_daemon.client.open_session(key=f"{number}{stage}", config=Config(num_ctx=2048))
    _dies(real_daemon, session, number, stage, work)


@pytest.fixture
def dead(daemon: Daemon) -> Session:
    """A session whose engine was killed while nothing ran."""
    session = daemon.client.open_session(key="idle", config=Config(prompt_format="raw"))
    session.ensure_prefix("xx")
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    eventually(lambda: session.explain().fatal_cause, "the session knows")
    return session


@pytest.mark.parametrize("call", OTHERS)
def test_a_dead_session_says_so_to_every_rpc(dead: Session, call: str) -> None:
    with pytest.raises(SessionFatal) as caught:
        OTHERS[call](dead)
    assert "SIGKILL" in caught.value.cause
    dead.close()


def test_a_dead_session_as_it_travels(daemon: Daemon, dead: Session) -> None:
    rpc = next(rpc for rpc in RPCS if rpc.name == "SessionService.EnsurePrefix")
    with pytest.raises(grpc.RpcError) as caught:
        send(daemon.channel(), rpc, pb.EnsurePrefixRequest(name=dead.name).SerializeToString())
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS
    status, detail = status_of(caught.value), errors_pb2.SessionFatal()
    assert info_of(status).reason == "SESSION_FATAL"
    assert status.details[1].Unpack(detail)
    assert info_of(status).metadata["cause"] == detail.cause == dead.explain().fatal_cause
    assert detail.cause in status.message
    dead.close()


def test_a_dead_session_can_be_closed(dead: Session) -> None:
    assert dead.close().state == pb.SESSION_STATE_CLOSED


def test_all_sessions_of_a_dead_engine_are_lost_and_others_are_not(daemon: Daemon) -> None:
    client = daemon.client
    mine = [client.open_session(key=f"lost {index}") for index in range(3)]
    dying = daemon.engine_pid()
    other = client.open_session(model="scripted-kv:num_ctx=512,weights=other")
    assert daemon.engine_pid() != dying
    other.ensure_prefix("zz")
    os.kill(dying, signal.SIGKILL)
    for session in mine:
        eventually(lambda session=session: session.explain().fatal_cause, "it is lost")  # type: ignore[misc]
    assert other.ensure_prefix("zz").status.prefilled_tokens == 0
    for session in [*mine, other]:
        session.close()


def test_watchers_of_a_dying_session_hear_of_it(daemon: Daemon) -> None:
    session = daemon.client.open_session(key="watched")
    with session.watch(timeout=30) as events:
        session.ensure_prefix("xx")
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        fault = next(event.fault for event in events if event.HasField("fault"))
    assert fault.reason == "SESSION_FATAL"
    assert "SIGKILL" in fault.message
    session.close()


def test_an_engine_that_dies_in_its_first_decode_runs_with_extra_buffers_off(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512,die=SIGSEGV@first-decode") as daemon:
        answers(daemon.client.open_session())
        [died] = daemon.records("engine.died_in_first_decode")
        assert "SIGSEGV" in died["cause"]
        starts = [record["extra_buffers"] for record in daemon.records("engine.starting")]
        assert starts == [True, False]
        # Not only once: the next engine of this model starts carefully, too.
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        eventually(lambda: daemon.records("engine.died"), "it died")
        answers(daemon.client.open_session())
        assert daemon.records("engine.starting")[-1]["extra_buffers"] is False


@pytest.mark.parametrize("when", ["load", "decode:1"])
def test_a_model_that_always_kills_its_engine_leaves_the_daemon_alive(daemon: Daemon, when: str) -> None:
    model = f"scripted-kv:num_ctx=512,die=SIGSEGV@{when}"
    before = daemon.client.sessions()
    for _ in range(2):
        with pytest.raises(SessionUnavailable) as caught:
            daemon.client.open_session(model=model)
        assert "SIGSEGV" in caught.value.message
        with pytest.raises(SessionUnavailable):
            daemon.client.model(model)
    assert daemon.client.healthy()
    assert daemon.client.sessions() == before
    answers(daemon.client.open_session(key="after"))


def test_an_engine_that_kills_itself_at_work(daemon: Daemon) -> None:
    """The first decode is the trial at load; the fourth is in the middle of a prefill."""
    session = daemon.client.open_session(model="scripted-kv:num_ctx=2048,die=SIGABRT@decode:4")
    with pytest.raises(SessionFatal) as caught:
        session.ensure_prefix("x" * 2000)
    assert "SIGABRT" in caught.value.cause
    assert daemon.client.healthy()
    session.close()
