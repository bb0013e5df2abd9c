"""The command line as a program of its own: signals, pipes and terminals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.client.fake_daemon import FakeDaemon, turn
from tests.client.terminal import on_a_terminal, program

from sessiond.client.daemon_process import log_path
from sessiond.v1 import session_service_pb2


def test_logs_follows_also_into_a_new_file(daemon: FakeDaemon) -> None:
    log_path().parent.mkdir(parents=True)
    log_path().write_text("first\nhal", encoding="utf-8")
    with subprocess.Popen(program(daemon, "logs", "-f"), stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        with log_path().open("a", encoding="utf-8") as log:
            log.write("f\n")
        assert follower.stdout.readline() == "half\n"
        log_path().rename(log_path().with_suffix(".old"))
        log_path().write_text("new\n", encoding="utf-8")
        assert follower.stdout.readline() == "new\n"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 130


def test_an_interrupt_cancels_the_turn_and_is_status_130(daemon: FakeDaemon) -> None:
    daemon.endless, daemon.answers["Complete"] = True, turn("again ")[:-1]
    with subprocess.Popen(
        program(daemon, "ask", "why?"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.read(6) == "again "
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=10)
        assert asking.returncode == 130
    assert "Traceback" not in said
    assert daemon.cancelled.wait(5)


def test_where_a_connection_ends_in_an_error_stderr_is_the_error_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    settings = bytes(3) + b"\x04\x00" + bytes(4)
    every_stream = (2**31 - 1).to_bytes(4)  # seen, so that none is tried again
    goaway = (8).to_bytes(3) + b"\x07\x00" + bytes(4) + every_stream + (2).to_bytes(4)  # an internal error

    def refuse(listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            # Who hangs up first is refused too, and the next one must find somebody here.
            with connection, contextlib.suppress(OSError):
                connection.sendall(settings)
                connection.recv(65_536)
                connection.sendall(goaway)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=refuse, args=(listener,), daemon=True).start()
        command = [sys.executable, "-m", "sessiond.client.cli.main", "--socket", str(path), "--no-start"]
        ended = subprocess.run(
            [*command, "--json", "ask", "why?"], capture_output=True, text=True, timeout=30, check=False
        )
        listener.shutdown(socket.SHUT_RDWR)
    assert ended.returncode == 1
    assert json.loads(ended.stderr)["error"]["reason"] in {"SESSION_UNAVAILABLE", "DEADLINE_EXCEEDED"}


def test_a_reader_that_goes_away_ends_it_quietly(daemon: FakeDaemon) -> None:
    daemon.endless, daemon.answers["Complete"] = True, turn("again ")[:-1]
    with subprocess.Popen(
        program(daemon, "ask", "why?"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asking:
        assert asking.stdout is not None
        assert asking.stderr is not None
        asking.stdout.read(6)
        asking.stdout.close()
        assert asking.wait(10) == 1
        assert b"Traceback" not in asking.stderr.read()
    assert daemon.cancelled.wait(5)


def test_on_a_terminal_a_model_cannot_send_control_characters(daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = turn("a\x1b]0;title\x07b", "\x9b2Jc\r", "d\u202ee\tf")
    daemon.answers["WatchSession"] = [
        session_service_pb2.WatchSessionResponse(
            event=session_service_pb2.SessionEvent(
                prefill_progress=session_service_pb2.PrefillProgress(
                    stage="prefix", done_tokens=5, total_tokens=9
                )
            )
        )
    ]
    said = on_a_terminal(program(daemon, "ask", "why?"))
    assert "a]0;titleb2Jcde" in said
    assert "7 tokens reused" in said
    assert not re.search("\x1b]|\x9b|\x07|\u202e", said)


def test_on_a_terminal_names_are_shown_in_a_table(daemon: FakeDaemon) -> None:
    daemon.answers["ListSessions"] = session_service_pb2.ListSessionsResponse(
        sessions=[session_service_pb2.Session(name="sessions/1", workspace_root="/a\x1b[31mb[bold]")]
    )
    said = on_a_terminal(program(daemon, "ps"))
    assert "SESSION" in said
    assert "sessions/1" in said
    assert "\x1b[31m" not in said


def test_a_shell_is_given_the_commands_that_begin_so() -> None:
    environ = os.environ | {
        "_SESSIONCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "sessionctl e",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("sessionctl")],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["plain,embed", "plain,ensure", "plain,explain"]
