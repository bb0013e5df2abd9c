"""Clients that send half of a request, read nothing, or ask too much at once: the rest goes on, and each is told."""

from __future__ import annotations

import contextlib
import socket as sockets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.daemon import Daemon, eventually, run_daemon, sentence_of, short_folder
from tests.e2e.turns import answers, never_ending
from tests.e2e.wire import RPCS, Rpc

from raw_grpc import RawCall
from sessiond.client import Config, Session, SessionBusy, SessionUnavailable
from sessiond.daemon.engine.pool import MAX_ENGINES
from sessiond.v1.session_service_pb2 import DecodeRequest, WatchSessionRequest

SERVICE = "/sessiond.v1.SessionService/"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon that is soon out of patience."""
    flags = ("--stall-timeout", "1", "--max-calls", "12")
    with short_folder() as folder, Daemon(folder, "scripted-kv:num_ctx=4096", *flags) as running:
        yield running


def _is_free(session: Session) -> bool:
    return not session.explain().HasField("busy")


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_half_a_request_is_given_up(daemon: Daemon, rpc: Rpc) -> None:
    with RawCall(str(daemon.socket), rpc.path) as call:
        call.send(b"0123456789", only=4)
        told = call.trailers()
    assert b"did not arrive whole within 1 seconds" in told


def test_a_call_without_any_request_is_given_up(daemon: Daemon) -> None:
    for path in (f"{SERVICE}ListSessions", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
        with RawCall(str(daemon.socket), path) as call:
            assert b"did not arrive whole" in call.trailers()


def test_half_a_request_keeps_nobody_else_waiting(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            call = stack.enter_context(RawCall(str(daemon.socket), f"{SERVICE}EnsurePrefix"))
            call.send(b"x" * 100, only=50)
        answers(daemon.client.open_session(key="beside halves"))


def test_a_client_that_reads_no_answer_loses_its_turn(daemon: Daemon, session: Session) -> None:
    session.ensure_prefix("xx")
    request = DecodeRequest(name=session.name)
    request.config.logit_bias.extend(never_ending(daemon.client))
    with RawCall(str(daemon.socket), f"{SERVICE}Decode", window=0) as deaf:
        deaf.send(request.SerializeToString())
        eventually(lambda: session.explain().HasField("busy"), "it is busy")
        eventually(lambda: _is_free(session), "the turn was taken from it")
        answers(session)
    [told] = [record for record in daemon.records("rpc") if "took nothing" in record.get("error", "")]
    assert (told["code"], told["reason"]) == ("UNAVAILABLE", "SESSION_UNAVAILABLE")


def test_a_client_that_reads_again_is_told(daemon: Daemon, session: Session) -> None:
    with RawCall(str(daemon.socket), f"{SERVICE}WatchSession", window=0) as slow:
        slow.send(WatchSessionRequest(name=session.name).SerializeToString())
        before = len(daemon.records("rpc"))

        def stalled() -> bool:
            answers(session)  # something to tell of
            return any("took nothing" in record.get("error", "") for record in daemon.records("rpc")[before:])

        eventually(stalled, "it is given up")
        slow.widen(1 << 20)
        assert b"took nothing of the answer for 1 seconds" in slow.trailers()


def test_a_slow_reader_is_not_a_deaf_one(daemon: Daemon, session: Session) -> None:
    session.ensure_prefix("xx")
    with session.decode(max_tokens=3000, logit_bias=never_ending(daemon.client)) as chunks:
        assert sum(len(chunk.token_ids) for chunk in chunks) == 3000


def test_a_connection_that_says_nothing_is_closed(daemon: Daemon) -> None:
    with sockets.socket(sockets.AF_UNIX) as silent:
        silent.settimeout(30)
        silent.connect(str(daemon.socket))
        while silent.recv(4096):
            pass  # what gRPC says of itself first


def test_more_calls_than_may_run(daemon: Daemon) -> None:
    session = daemon.client.open_session(key="watched")
    request = WatchSessionRequest(name=session.name).SerializeToString()
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            call = stack.enter_context(RawCall(str(daemon.socket), f"{SERVICE}WatchSession"))
            call.send(request)

        def refused() -> str:
            try:
                daemon.client.sessions()
            except SessionUnavailable as raised:
                return str(raised)
            return ""

        assert "calls are running, which is the limit" in eventually(refused, "it is full")
        assert daemon.client.healthy(), "that one is never in the way"

    def listed() -> bool:
        with contextlib.suppress(SessionUnavailable):
            return bool(daemon.client.sessions())
        return False

    eventually(listed, "who vanished is not counted")
    answers(session)


def test_health_can_be_watched_for_as_long_as_one_likes(daemon: Daemon, session: Session) -> None:
    stub: Any = health_pb2_grpc.HealthStub(daemon.channel())
    watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    watching.cancel()
    answers(session)


def test_more_engines_than_there_may_be(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512") as daemon:
        first = daemon.client.open_session()
        for layers in range(1, MAX_ENGINES):
            daemon.client.open_session(config=Config(num_gpu_layers=layers))
        with pytest.raises(SessionUnavailable, match="which is the limit"):
            daemon.client.open_session(config=Config(num_gpu_layers=MAX_ENGINES))
        answers(daemon.client.open_session(config=Config(num_gpu_layers=1)))
        answers(first)


def test_turns_that_wait(folder: Path) -> None:
    flags = ("--max-waiting-turns-each", "3", "--max-waiting-turns", "4")
    with Daemon(folder, "scripted-kv:num_ctx=4096,step_ms=20", *flags) as daemon:
        one, two = (daemon.client.open_session(key=key) for key in ("one", "two"))
        bias = never_ending(daemon.client)
        for session in (one, two):
            session.ensure_prefix("xx")

        def outcome(session: Session) -> type[Exception] | None:
            try:
                session.prefill_suffix("y", timeout=30)
            except (SessionBusy, SessionUnavailable) as raised:
                return type(raised)
            return None

        with (
            one.decode(max_tokens=4000, logit_bias=bias) as first,
            two.decode(max_tokens=4000, logit_bias=bias) as second,
        ):
            next(first)
            next(second)
            seen: set[type[Exception] | None] = set()

            def both() -> bool:
                with ThreadPoolExecutor(40) as pool:
                    seen.update(pool.map(outcome, [one, two] * 20))
                return len(seen) > 1

            eventually(both, "some were too many for their session, and some for all sessions together")
        # Both answers still ran: nobody came in.
        assert seen == {SessionBusy, SessionUnavailable}
        for session in (one, two):
            eventually(partial(_is_free, session), "it is free")
            answers(session)


@pytest.mark.parametrize(
    "flags", [("--stall-timeout", "0"), ("--max-calls", "0"), ("--max-waiting-turns", "-1")]
)
def test_senseless_limits(folder: Path, flags: tuple[str, str]) -> None:
    ended = run_daemon(folder, "--socket", str(folder / "s.sock"), *flags)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    sentence_of(ended)


def test_afterwards_nothing_is_left(daemon: Daemon) -> None:
    process = psutil.Process(daemon.process.pid)
    session = daemon.client.open_session(key="last")

    def round_of_faults() -> int:
        for window in (0, 65_535):
            with RawCall(str(daemon.socket), f"{SERVICE}WatchSession", window=window) as call:
                call.send(WatchSessionRequest(name=session.name).SerializeToString())
                answers(session)
        with RawCall(str(daemon.socket), f"{SERVICE}Decode") as call:
            call.send(b"0123456789", only=4)
        return process.num_fds()

    round_of_faults()
    before = process.num_fds()
    for _ in range(5):
        round_of_faults()
    eventually(lambda: process.num_fds() <= before, "every file is closed again")
