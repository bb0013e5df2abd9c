"""Engines that die under a daemon: turns that had not begun to answer are run again, and sessions go on with the next one.

Each test has a daemon of its own: how often an engine died is counted over all of its sessions.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.daemon.engine.scripted import fresh_answer
from tests.e2e.daemon import Daemon, eventually, is_gone, short_folder
from tests.e2e.scraped import scrape
from tests.e2e.turns import RAW, answers, in_background, never_ending, wait_for_stage
from tests.e2e.wire import RPCS, info_of, send, status_of

from sessiond.client import Client, Config, Session, SessionFatal, SessionUnavailable, UnsupportedFeature
from sessiond.v1 import context_pb2, errors_pb2
from sessiond.v1 import session_service_pb2 as pb

TEXT = "xyz" * 160
SIGNALS = (signal.SIGKILL, signal.SIGSEGV)
SLOW = "scripted-kv:num_ctx=2048,step_ms=50"
SLOW_PROMPT = "scripted-prompt:num_ctx=2048,step_ms=50"
SMALL_STEPS = Config(prompt_format="raw", num_ubatch=32)
READY = pb.SESSION_STATE_READY
UNAVAILABLE = "SESSION_UNAVAILABLE"

CALLS: dict[str, Callable[[Session], Any]] = {
    "EnsurePrefix": lambda session: session.ensure_prefix("x"),
    "PrefillSuffix": lambda session: session.prefill_suffix("x"),
    "Decode": lambda session: list(session.decode(max_tokens=1)),
    "Complete": lambda session: list(session.complete("x", max_tokens=1)),
    "ForkSession": lambda session: session.fork(),
}


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Slow enough to be killed at work."""
    with short_folder() as folder, Daemon(folder, getattr(request, "param", SLOW)) as running:
        yield running


def _kill(daemon: Daemon, number: signal.Signals = signal.SIGKILL) -> int:
    """Kill the newest engine, and wait until the daemon knows."""
    pid = daemon.engine_pid()
    before = len(daemon.records("engine.died"))
    os.kill(pid, number)
    eventually(lambda: len(daemon.records("engine.died")) > before, "the daemon knows")
    return pid


def _next_engine(daemon: Daemon, old: int) -> int:
    return eventually(lambda: pid if (pid := daemon.engine_pid()) != old else None, "another engine stands")


def _said(session: Session, most: int = 6) -> list[int]:
    return [token for chunk in session.decode(max_tokens=most, temperature=0) for token in chunk.token_ids]


# While nothing ran.


@pytest.mark.parametrize("call", CALLS)
def test_an_idle_session_whose_engine_was_killed_is_there_for_every_rpc(daemon: Daemon, call: str) -> None:
    session = daemon.client.open_session(key="idle", config=RAW)
    session.ensure_prefix("xx")
    old = _kill(daemon)
    report = session.explain()
    assert (report.fatal_cause, report.closed, report.prefix_tokens) == ("", False, 2)
    assert (report.resident_tokens, report.kv_bytes) == (0, 0)
    CALLS[call](session)
    attached = daemon.client.open_session(key="idle", config=RAW)
    assert attached.attached and attached.name == session.name
    assert session.info().state == READY
    answers(session)
    assert daemon.engine_pid() != old
    eventually(lambda: is_gone(old), "the old engine is gone")


def test_a_close_is_at_once_whatever_became_of_the_engine(daemon: Daemon) -> None:
    session = daemon.client.open_session()
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    assert session.close().state == pb.SESSION_STATE_CLOSED


def test_a_feature_that_is_missing_is_missing_all_the_same(daemon: Daemon) -> None:
    session = daemon.client.open_session()
    _kill(daemon)
    with pytest.raises(UnsupportedFeature):
        session.prefill_suffix(fim=("a", "b"))


def test_watchers_hear_of_the_death_and_of_the_next_engine_and_go_on(daemon: Daemon) -> None:
    session = daemon.client.open_session(key="watched", config=RAW)
    with session.watch(timeout=60) as events:
        session.ensure_prefix("xx")
        _kill(daemon)
        faults = (event.fault for event in events if event.HasField("fault"))
        died, restarted = next(faults), next(faults)
        assert (died.reason, restarted.reason) == (UNAVAILABLE, UNAVAILABLE)
        assert "SIGKILL" in died.message and "started again" in restarted.message
        session.ensure_prefix("xy")
        next(event for event in events if event.HasField("prefill_progress"))


def test_deaths_and_restarts_are_counted(folder: Path) -> None:
    with Daemon(folder, SLOW, "--metrics", "127.0.0.1:0", token="t") as daemon:
        session = daemon.client.open_session()
        old = _kill(daemon)
        _next_engine(daemon, old)
        answers(session)
        told = scrape(daemon)
        assert told["sessiond_engine_deaths_total"] == told["sessiond_engine_restarts_total"] == 1


# While a turn ran.


@pytest.mark.parametrize(
    ("daemon", "number", "deterministic"),
    [
        (SLOW, signal.SIGKILL, False),
        (SLOW, signal.SIGSEGV, True),
        (SLOW_PROMPT, signal.SIGSEGV, False),
        (SLOW_PROMPT, signal.SIGKILL, True),
    ],
    indirect=["daemon"],
)
def test_a_prefill_is_run_again_by_itself(
    daemon: Daemon, number: signal.Signals, deterministic: bool
) -> None:
    config = Config(prompt_format="raw", num_ubatch=32, deterministic=deterministic)
    session = daemon.client.open_session(config=config)
    with in_background(lambda: session.ensure_prefix(TEXT, timeout=60)) as running:
        wait_for_stage(session, "prefix", done=0)
        time.sleep(0.2)
        _kill(daemon, number)
        status = running.result(60).status
    assert status.prefix_tokens == status.resident_tokens == len(TEXT)
    assert _said(session) == fresh_answer(list(TEXT.encode()), 6)
    assert len(daemon.records("turn.sent_again")) == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_an_answer_that_was_begun_ends_and_the_session_goes_on_from_its_prefix(
    daemon: Daemon, number: signal.Signals
) -> None:
    client = daemon.client
    session = client.open_session(config=RAW)
    session.ensure_prefix("xx")
    endless = never_ending(client)
    session.prefill_suffix("yyyy")
    with in_background(lambda: list(session.decode(timeout=60, logit_bias=endless))) as running:
        wait_for_stage(session, "decode", done=2)
        os.kill(daemon.engine_pid(), number)
        with pytest.raises(SessionFatal) as caught:
            running.result(30)
    assert number.name in caught.value.cause
    assert caught.value.metadata() == {"cause": caught.value.cause}
    report = session.explain()
    assert (report.prefix_tokens, report.suffix_tokens, report.fatal_cause) == (2, 0, "")
    assert not report.HasField("busy") and not report.closed
    assert session.info().state == READY and client.healthy()
    assert _said(session) == fresh_answer(list(b"xx"), 6)


def test_a_fatal_turn_as_it_travels(daemon: Daemon) -> None:
    session = daemon.client.open_session(
        model="scripted-kv:num_ctx=512,die=SIGABRT@decode:4", config=SMALL_STEPS
    )
    rpc = next(rpc for rpc in RPCS if rpc.name == "SessionService.EnsurePrefix")
    asked = pb.EnsurePrefixRequest(name=session.name, prefix=context_pb2.PrefixInput(text="x" * 300))
    with pytest.raises(grpc.RpcError) as caught:
        send(daemon.channel(), rpc, asked.SerializeToString())
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS
    status, detail = status_of(caught.value), errors_pb2.SessionFatal()
    assert info_of(status).reason == "SESSION_FATAL"
    assert status.details[1].Unpack(detail)
    assert "SIGABRT" in detail.cause and info_of(status).metadata["cause"] == detail.cause
    assert detail.cause in status.message


def test_two_deaths_in_one_turn_are_outlived(daemon: Daemon) -> None:
    session = daemon.client.open_session(config=SMALL_STEPS)
    with in_background(lambda: session.ensure_prefix(TEXT, timeout=60)) as running:
        wait_for_stage(session, "prefix", done=32)
        _next_engine(daemon, _kill(daemon))
        time.sleep(0.2)
        _kill(daemon)
        assert running.result(60).status.prefix_tokens == len(TEXT)
    assert [each["tries_left"] for each in daemon.records("turn.sent_again")] == [1, 0]


def test_a_turn_that_kills_every_engine_ends_and_others_are_served(daemon: Daemon) -> None:
    """The first decodes of an engine are those of its trial at load; the fourth is in the middle of a prefill."""
    model = "scripted-kv:num_ctx=512,die=SIGABRT@decode:4"
    session = daemon.client.open_session(model=model, config=SMALL_STEPS)
    with pytest.raises(SessionFatal) as caught:
        session.ensure_prefix("x" * 300)
    assert "SIGABRT" in caught.value.cause
    assert len(daemon.records("engine.died")) == 3
    with pytest.raises(SessionUnavailable, match=r"died 3 times in a row.*SIGABRT.*started again in"):
        session.ensure_prefix("x")
    assert session.info().state == READY
    answers(daemon.client.open_session(key="other"))
    eventually(lambda: _is_ensured(session), "the wait is over")


def _is_ensured(session: Session) -> bool:
    try:
        return session.ensure_prefix("x").status.prefix_tokens == 1
    except SessionUnavailable:
        return False


def test_an_open_is_run_again_by_itself(daemon: Daemon) -> None:
    first = daemon.client.open_session(config=RAW)
    _kill(daemon)
    with in_background(lambda: daemon.client.open_session(key="second", config=RAW)) as running:
        second = running.result(60)
    assert not second.attached
    for session in (first, second):
        answers(session)


def test_a_fork_right_after_a_death_is_what_its_parent_is(daemon: Daemon) -> None:
    session = daemon.client.open_session(config=RAW)
    session.ensure_prefix("xxyy")
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    child = session.fork("child")
    assert child.explain().manifest.digest == session.explain().manifest.digest
    for each in (session, child):
        assert _said(each) == fresh_answer(list(b"xxyy"), 6)


def test_all_sessions_of_a_dead_engine_go_on_and_others_notice_nothing(daemon: Daemon) -> None:
    client = daemon.client
    mine = [client.open_session(key=f"mine {index}", config=RAW) for index in range(3)]
    for session in mine:
        session.ensure_prefix("xxx")
    dying = daemon.engine_pid()
    other = client.open_session(model="scripted-kv:num_ctx=512,weights=other", config=RAW)
    other.ensure_prefix("zz")
    os.kill(dying, signal.SIGKILL)
    eventually(lambda: mine[0].explain().resident_tokens == 0, "it is known")
    assert other.ensure_prefix("zz").status.prefilled_tokens == 0
    counts = [session.ensure_prefix("xxx").status for session in mine]
    assert [(each.prefilled_tokens, each.reused_tokens) for each in counts] == [(3, 0), (0, 3), (0, 3)]


def test_what_was_on_the_disk_comes_back(daemon: Daemon) -> None:
    session = daemon.client.open_session(config=RAW)
    cold = session.ensure_prefix(TEXT).status
    folder = daemon.folder / "state"
    eventually(lambda: len(list(folder.glob("kv/*/entries/*"))) >= 2, "KV is on the disk")
    _kill(daemon)
    status = session.ensure_prefix(TEXT).status
    assert status.restored_tokens >= 0.95 * cold.prefix_tokens
    assert status.manifest_digest == cold.manifest_digest


def test_what_keep_hot_has_comes_back_and_saves_are_answered(daemon: Daemon) -> None:
    root = daemon.folder / "root"
    root.mkdir()
    (root / "a.txt").write_text("xyz\n" * 20)
    one, two = (daemon.client.open_session(root, key=key, config=RAW) for key in "ab")
    for session in (one, two):
        session.ensure_prefix(workspace=True)
    with one.watch(timeout=60) as events:
        _kill(daemon)
        next(event for event in events if event.keep_hot.phase == "finished")
        assert two.ensure_prefix(workspace=True).status.prefilled_tokens == 0
        (root / "a.txt").write_text("zyx\n" * 20)
        next(event for event in events if event.keep_hot.phase == "finished")
    for session in (one, two):
        assert session.ensure_prefix(workspace=True).status.prefilled_tokens == 0


# What dies again and again.


def test_deaths_in_a_loop_back_off_and_say_so(daemon: Daemon) -> None:
    session = daemon.client.open_session(config=RAW)
    for _ in range(2):
        _next_engine(daemon, _kill(daemon))
    _kill(daemon)
    with pytest.raises(SessionUnavailable, match=r"died 3 times in a row.*SIGKILL.*again in [01]\.\d s"):
        session.ensure_prefix("xx")
    with pytest.raises(SessionUnavailable, match="died 3 times"):
        daemon.client.open_session(key="new")
    assert daemon.client.healthy() and session.info().state == READY
    [waits] = daemon.records("engine.waits")
    assert waits["deaths"] == 3
    eventually(lambda: _is_ensured(session), "the wait is over")
    _kill(daemon)
    assert [each["deaths"] for each in daemon.records("engine.waits")] == [3, 4]


def test_an_engine_that_dies_in_its_first_decode_runs_with_extra_buffers_off(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512,die=SIGSEGV@first-decode") as daemon:
        answers(daemon.client.open_session())
        [died] = daemon.records("engine.died_in_first_decode")
        assert "SIGSEGV" in died["cause"]
        starts = [record["extra_buffers"] for record in daemon.records("engine.starting")]
        assert starts == [True, False]
        # Not only once: the next engine of this model starts carefully, too.
        _kill(daemon)
        answers(daemon.client.open_session())
        assert daemon.records("engine.starting")[-1]["extra_buffers"] is False


@pytest.mark.parametrize("when", ["load", "decode:1"])
def test_a_model_that_always_kills_its_engine_is_set_aside(daemon: Daemon, when: str) -> None:
    model = f"scripted-kv:num_ctx=512,die=SIGSEGV@{when}"
    before = daemon.client.sessions()
    with pytest.raises(SessionUnavailable, match="SIGSEGV"):
        daemon.client.open_session(model=model)
    starts = len(daemon.records("engine.starting"))
    for _ in range(2):
        with pytest.raises(SessionUnavailable, match=r"set aside until its file changes.*SIGSEGV"):
            daemon.client.open_session(model=model)
        with pytest.raises(SessionUnavailable):
            daemon.client.model(model)
    assert len(daemon.records("engine.starting")) == starts
    assert len(daemon.records("model.set_aside")) == 1
    assert daemon.client.healthy()
    assert daemon.client.sessions() == before
    answers(daemon.client.open_session(key="after"))


# A real one.


def _prefill_again(session: Session, _client: Client) -> None:
    session.ensure_prefix("The quick brown fox jumps over the lazy dog. " * 150, timeout=120)


@pytest.mark.model
def test_a_real_engine_that_is_killed_at_work(folder: Path) -> None:
    with Daemon(folder) as daemon:
        session = daemon.client.open_session(config=Config(num_ctx=2048))
        with in_background(lambda: _prefill_again(session, daemon.client)) as running:
            wait_for_stage(session, "prefix", done=2)
            _kill(daemon, signal.SIGSEGV)
            running.result(120)
        answers(session)
        endless = never_ending(daemon.client)
        session.ensure_prefix("xx")
        with in_background(lambda: list(session.decode(timeout=60, logit_bias=endless))) as running:
            wait_for_stage(session, "decode", done=2)
            os.kill(daemon.engine_pid(), signal.SIGKILL)
            with pytest.raises(SessionFatal, match="SIGKILL"):
                running.result(60)
        answers(session)
