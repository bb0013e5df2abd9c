"""What a signal's handler raises ends a call at once, wherever it comes, and leaves nothing that hangs."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest
from tests.client.fake_daemon import FakeDaemon
from tests.client.fake_daemon import turn as answered

from sessiond.client import Client, threads
from sessiond.v1 import session_service_pb2

pytestmark = pytest.mark.timeout(120)


class Interrupter:
    """Raises KeyboardInterrupt as a Ctrl-C does, after this thread has come by a number of lines, calls and returns."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __enter__(self) -> None:
        sys.settrace(self._step)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _step(self, _frame: FrameType, _event: str, _arg: object) -> Any:
        self.left -= 1
        if self.left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self._step


def turn(daemon: FakeDaemon) -> None:
    """Calls of both kinds."""
    with Client(daemon.socket) as client:
        client.sessions()
        with client.session("1").decode() as stream:
            next(stream)
            next(stream)


def test_an_interrupt_at_any_line_leaves_nothing_that_hangs(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is raised while an object is taken apart is lost, in Python, and told here.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    daemon.endless, daemon.answers["Decode"] = True, [session_service_pb2.DecodeResponse()]
    turn(daemon)  # all is imported now
    raised, at = 0, 0
    while True:
        at += 1
        interrupter = Interrupter(at)
        try:
            with interrupter:
                turn(daemon)
        except KeyboardInterrupt:
            raised += 1
        if interrupter.left > 0:  # it does not come by so many
            break
    assert raised > 100
    turn(daemon)


def prompts(daemon: FakeDaemon) -> None:
    """Prompts that are answered by threads."""
    with Client(daemon.socket) as client, client.prompts(at_once=2) as desk:
        assert [answer.text for answer in desk.run(["one", "two", "three"])] == ["said"] * 3


def test_an_interrupt_at_any_line_of_a_run_of_prompts_leaves_nothing_that_hangs(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    daemon.answers["Complete"] = answered("said")
    prompts(daemon)  # all is imported now
    moments, raised, left, at = random.Random(3), 0, 0, 0
    while True:
        at += moments.randint(1, 12)
        interrupter = Interrupter(at)
        daemon.requests.clear()
        try:
            with interrupter:
                prompts(daemon)
        except KeyboardInterrupt:
            raised += 1
            told = [type(request).__name__ for request in daemon.requests]
            # One may have been interrupted while it was opened; then it is looked for by its key.
            left += told.count("OpenSessionRequest") > told.count("CloseSessionRequest") + 1
        if interrupter.left > 0:  # it does not come by so many
            break
    assert raised > 50
    # Python can raise before the first line of what closes them: that no code can do anything about.
    assert left <= raised // 40
    prompts(daemon)


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGALRM raises."""

    def ring(number: int, _frame: FrameType | None) -> None:
        raise InterruptedError(number)

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, before)


def test_a_wait_hears_a_signal_that_did_not_wake_it(alarm: None) -> None:
    def ring_here() -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)  # the waiting thread goes on sleeping

    bell = threading.Thread(target=ring_here)
    bell.start()
    queue: SimpleQueue[None] = SimpleQueue()
    begin = time.monotonic()
    with pytest.raises(InterruptedError):
        threads.wait_for(queue)
    assert time.monotonic() - begin < 5
    bell.join()


@pytest.mark.parametrize("arguments", [["ask", "why?"], ["ensure"]], ids=lambda words: words[0])
def test_a_ctrl_c_early_in_a_turn_ends_the_command_and_the_turn(
    daemon: FakeDaemon, arguments: list[str]
) -> None:
    daemon.endless, daemon.answers["Complete"] = True, [session_service_pb2.CompleteResponse()]
    daemon.stuck = "EnsurePrefix"
    moments = random.Random(7)
    program = [sys.executable, "-m", "sessiond.client.cli.main", "--socket", str(daemon.socket)]
    for _ in range(4):
        daemon.requests.clear()
        daemon.cancelled.clear()
        with subprocess.Popen([*program, *arguments], stderr=subprocess.PIPE, text=True) as running:
            while not daemon.requests:  # the session is being opened; the turn is next
                assert running.poll() is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.03))
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=5)
            assert running.returncode == 130
        assert "Traceback" not in said
        assert len(daemon.requests) == 1 or daemon.cancelled.wait(5)
