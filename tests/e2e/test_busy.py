"""While a turn runs the daemon answers, says what it does, and lets go of it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.e2e.daemon import Daemon, eventually
from tests.e2e.turns import answers, never_ending, wait_for_stage

from sessiond.client import Client, Config, Session
from sessiond.v1 import session_service_pb2 as pb
from sessiond.v1 import session_service_pb2_grpc
from sessiond.v1.context_pb2 import PrefixInput

CHECKS = 100


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Thirty micro-batches of 64 tokens take 1.5 seconds."""
    return "scripted-kv:num_ctx=2048,step_ms=50"


def _prefill_alone(daemon: Daemon, session: Session, text: str) -> Any:
    """A prefill as a future that can be cancelled."""
    stub = session_service_pb2_grpc.SessionServiceStub(daemon.channel())
    request = pb.EnsurePrefixRequest(name=session.name, prefix=PrefixInput(text=text))
    method: Any = stub.EnsurePrefix
    return method.future(request, timeout=300)


def _check_health(client: Client, still_running: Callable[[], bool]) -> tuple[int, int, float]:
    """Answers, answers while it ran, the worst time in milliseconds."""
    answered = beside = 0
    worst = 0.0
    for _ in range(CHECKS):
        begun = time.monotonic()
        healthy = client.healthy(timeout=10.0)
        worst = max(worst, (time.monotonic() - begun) * 1e3)
        answered += healthy
        beside += still_running()
    return answered, beside, worst


def _health_answers_beside(daemon: Daemon, session: Session, text: str) -> None:
    running = _prefill_alone(daemon, session, text)
    wait_for_stage(session, "prefix")
    answered, beside, worst = _check_health(daemon.client, lambda: not running.done())
    told = f"{answered} of {CHECKS} answered, {beside} of them beside the prefill, the slowest after {worst:.1f} ms"
    print(told)
    assert answered == CHECKS, told
    assert beside > 0, told
    running.cancel()


def _report_tells_of(daemon: Daemon, session: Session, text: str) -> None:
    running = _prefill_alone(daemon, session, text)
    first = wait_for_stage(session, "prefix")
    later = wait_for_stage(session, "prefix", done=first.done_tokens + 1)
    assert not running.done()
    assert 0 < first.done_tokens < later.done_tokens <= first.total_tokens == later.total_tokens
    assert later.elapsed_ms > first.elapsed_ms > 0
    assert session.info().state == pb.SESSION_STATE_BUSY
    running.cancel()


def _cancel_frees(daemon: Daemon, session: Session, text: str) -> None:
    running = _prefill_alone(daemon, session, text)
    wait_for_stage(session, "prefix")
    running.cancel()
    answers(session)  # at once: it is not told that it is in its own way
    assert not session.explain().HasField("busy")


class TestScripted:
    """With a scripted model."""

    def test_health_answers_while_a_prefill_runs(self, daemon: Daemon, session: Session) -> None:
        _health_answers_beside(daemon, session, "x" * 2000)

    def test_the_report_tells_how_far_a_prefill_is(self, daemon: Daemon, session: Session) -> None:
        _report_tells_of(daemon, session, "x" * 2000)

    def test_a_cancelled_prefill_makes_way_at_once(self, daemon: Daemon, session: Session) -> None:
        _cancel_frees(daemon, session, "x" * 2000)

    def test_what_a_cancelled_prefill_computed_is_kept(self, daemon: Daemon, session: Session) -> None:
        running = _prefill_alone(daemon, session, "x" * 2000)
        wait_for_stage(session, "prefix", done=200)
        running.cancel()
        eventually(lambda: not session.explain().HasField("busy"), "it is free")
        report = session.explain()
        assert report.prefix_tokens == 0, "the session is what it was"
        assert session.ensure_prefix("x" * 1000).status.reused_tokens >= 200

    def test_a_deadline_that_passes_in_a_prefill_frees_the_engine(self, session: Session) -> None:
        with pytest.raises(TimeoutError):
            session.ensure_prefix("x" * 2000, timeout=0.5)
        eventually(lambda: not session.explain().HasField("busy"), "it is free", 5.0)
        answers(session)

    def test_a_deadline_that_passes_in_a_decode_frees_the_engine(
        self, client: Client, session: Session
    ) -> None:
        session.ensure_prefix("xx")
        with pytest.raises(TimeoutError):
            list(session.decode(timeout=0.5, logit_bias=never_ending(client)))
        eventually(lambda: not session.explain().HasField("busy"), "it is free", 5.0)
        answers(session)

    def test_a_cancelled_decode_keeps_what_it_said(self, client: Client, session: Session) -> None:
        session.ensure_prefix("xx")
        with session.decode(max_tokens=1000, logit_bias=never_ending(client)) as chunks:
            said = sum(len(next(chunks).token_ids) for _ in range(3))
        eventually(lambda: not session.explain().HasField("busy"), "it is free", 5.0)
        report = session.explain()
        assert report.suffix_tokens >= said  # more may have come than were read
        # The last token that was sent is part of the session, and may not have been computed yet.
        assert report.prefix_tokens + report.suffix_tokens - report.resident_tokens in (0, 1)
        session.prefill_suffix("y")
        after = session.explain()
        assert after.resident_tokens == after.prefix_tokens + after.suffix_tokens > report.resident_tokens
        answers(session)

    def test_a_cancelled_decode_makes_way_at_once(self, client: Client, session: Session) -> None:
        session.ensure_prefix("xx")
        for _ in range(5):
            with session.decode(max_tokens=1000, logit_bias=never_ending(client)) as chunks:
                next(chunks)
            session.prefill_suffix("y")

    def test_a_client_that_vanishes_in_a_decode_frees_the_session(
        self, daemon: Daemon, session: Session
    ) -> None:
        other = daemon.new_client()
        found = other.session(session.name)
        found.ensure_prefix("xx")
        chunks = found.decode(max_tokens=1000, logit_bias=never_ending(other))
        next(chunks)
        other.close()
        eventually(lambda: not session.explain().HasField("busy"), "it is free", 10.0)
        answers(session)

    def test_many_cancels_from_many_threads_leave_every_session_usable(self, daemon: Daemon) -> None:
        sessions = [daemon.client.open_session(key=f"storm {index}") for index in range(4)]
        errors: list[BaseException] = []

        def storm(session: Session) -> None:
            try:
                for round_number in range(6):
                    running = _prefill_alone(daemon, session, "x" * 1000 + str(round_number))
                    time.sleep(0.02 * round_number)
                    running.cancel()
                eventually(lambda: not session.explain().HasField("busy"), "it is free")
                answers(session)
            except (grpc.RpcError, Exception) as error:  # noqa: BLE001 - told to the test below
                errors.append(error)

        threads = [threading.Thread(target=storm, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for session in sessions:
            session.close()
        assert not errors


@pytest.mark.model
class TestReal:
    """With the real model and about 1,500 tokens."""

    TEXT = "The quick brown fox jumps over the lazy dog. " * 150

    @pytest.fixture
    def real_session(self, real_daemon: Daemon, request: pytest.FixtureRequest) -> Session:
        """A session of its own."""
        return real_daemon.client.open_session(key=request.node.name, config=Config(num_ctx=2048))

    def test_health_report_and_cancel_while_a_prefill_runs(
        self, real_daemon: Daemon, real_session: Session
    ) -> None:
        tokens = len(real_daemon.client.tokenize(self.TEXT).token_ids)
        assert 1200 < tokens < 1900
        _health_answers_beside(real_daemon, real_session, self.TEXT)
        eventually(lambda: not real_session.explain().HasField("busy"), "it is free", 5.0)
        _report_tells_of(real_daemon, real_session, "Other. " + self.TEXT)
        eventually(lambda: not real_session.explain().HasField("busy"), "it is free", 5.0)
        _cancel_frees(real_daemon, real_session, "Another one. " + self.TEXT)
        with pytest.raises(TimeoutError):
            real_session.ensure_prefix("Yet another. " + self.TEXT, timeout=0.3)
        answers(real_session)
        real_session.close()
