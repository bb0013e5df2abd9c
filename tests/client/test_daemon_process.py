"""Starting and stopping a daemon, with a program that stands in for it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sessiond.client import Client, SessionUnavailable, daemon_lock, daemon_process
from sessiond.client.cli.main import cli
from sessiond.v1.errors import InvalidInput


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> Iterator[Path]:
    """The stand-in as a program, and every process that it leaves behind ended."""
    found = short_path / "sessiond"
    script = Path(__file__).with_name("fake_program.py")
    found.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    found.chmod(0o755)
    monkeypatch.setattr(daemon_process, "find_program", lambda: str(found))
    yield found
    for lock in short_path.rglob("*.lock"):
        pid = daemon_lock.running_pid(lock.with_suffix(""))
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def test_a_daemon_is_started_served_by_and_stopped(short_path: Path) -> None:
    socket = short_path / "new/folder/d.sock"
    with Client(socket, token="secret") as client:
        assert daemon_process.ensure_running(client)
        assert client.healthy()
        assert not daemon_process.ensure_running(client)  # the second time there is nothing to do
        pid = daemon_lock.running_pid(socket)
        assert pid is not None
        assert os.getsid(pid) == pid  # a session of its own: our terminal's signals are not for it
        assert daemon_lock.stop_daemon(socket) == pid
        assert not client.healthy()
    assert daemon_lock.stop_daemon(socket) is None
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    log = daemon_process.log_path()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "starting in / with token secret" in log.read_text(encoding="utf-8")


def test_a_command_starts_the_daemon_and_another_ends_it(short_path: Path) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--socket", str(short_path / "d.sock"), "--json", *arguments])

    asked = run("ps")  # the stand-in has no other service than health
    assert json.loads(asked.stderr)["error"]["reason"] == "UNSUPPORTED_FEATURE"
    ended = json.loads(run("stop").stdout)
    assert ended["stopped"]
    assert json.loads(run("status").stdout)["health"] == "NOT_RUNNING"


def test_clients_that_race_each_other_all_succeed(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "slow")
    started: list[bool] = []
    failed: list[BaseException] = []

    def race() -> None:
        try:
            with Client(short_path / "d.sock") as client:
                started.append(daemon_process.ensure_running(client, 60))
        except SessionUnavailable as error:
            failed.append(error)

    racers = [threading.Thread(target=race) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert failed == []
    assert sorted(started) == [False, False, True]


def test_a_daemon_that_lost_the_race_before_it_looked_at_the_lock_is_ended(
    short_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, told, socket = short_path / "late", short_path / "late.pid", short_path / "d.sock"
    late.write_text(f'#!/bin/sh\necho $$ >"{told}"\nsleep 20\nexec "{program}" "$@"\n', encoding="utf-8")
    late.chmod(0o755)
    programs = iter([late, program])
    monkeypatch.setattr(daemon_process, "find_program", lambda: str(next(programs)))
    started: list[bool] = []

    def start() -> None:
        with Client(socket) as client:
            started.append(daemon_process.ensure_running(client, 60))

    first = threading.Thread(target=start)
    first.start()
    while not (told.exists() and told.read_text()):
        time.sleep(0.01)
    start()
    first.join()
    assert sorted(started) == [False, True]
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    assert daemon_lock.stop_daemon(socket) is not None


def test_a_stale_socket_is_no_daemon(short_path: Path) -> None:
    socket = short_path / "d.sock"
    os.mknod(socket, 0o600 | stat.S_IFSOCK)
    with Client(socket) as client, pytest.raises(SessionUnavailable):
        client.sessions()
    assert not daemon_process.is_listening(socket)


def test_a_daemon_that_ends_early_shows_its_last_words(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "crash")
    daemon_process.log_path().parent.mkdir(parents=True)
    daemon_process.log_path().write_text("of another run\n", encoding="utf-8")
    with Client(short_path / "d.sock") as client, pytest.raises(SessionUnavailable) as raised:
        daemon_process.ensure_running(client)
    assert "status 3" in str(raised.value)
    assert "cannot load the model" in str(raised.value)
    assert "another run" not in str(raised.value)


def test_a_start_takes_a_bounded_time(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "never")
    monkeypatch.setenv("SESSIOND_START_TIMEOUT", "1.5")
    with Client(short_path / "d.sock") as client, pytest.raises(SessionUnavailable, match=r"1\.5 seconds"):
        daemon_process.ensure_running(client)


@pytest.mark.parametrize("told", ["soon", "0", "-1", "nan", "inf"])
def test_a_malformed_start_timeout_is_invalid(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIOND_START_TIMEOUT", told)
    with pytest.raises(InvalidInput, match="SESSIOND_START_TIMEOUT"):
        daemon_process.start_timeout()


def test_a_daemon_that_does_not_end_is_told_of(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "deaf")
    with Client(short_path / "d.sock") as client:
        daemon_process.ensure_running(client)
        with pytest.raises(TimeoutError, match="still runs"):
            daemon_lock.stop_daemon(short_path / "d.sock", timeout=0.3)


def test_a_lock_file_alone_is_no_daemon(short_path: Path) -> None:
    lock = daemon_lock.lock_path(short_path / "d.sock")
    lock.write_text(f"{os.getpid()}\n", encoding="ascii")  # would end this very test
    assert daemon_lock.stop_daemon(short_path / "d.sock") is None


@pytest.mark.parametrize("text", ["", "x\n", "-1\n", "0\n", "1\n"])
def test_a_held_lock_without_a_process_id_ends_nothing(short_path: Path, text: str) -> None:
    lock = daemon_lock.lock_path(short_path / "d.sock")
    lock.write_text(text, encoding="ascii")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SessionUnavailable, match="process id"):
            daemon_lock.stop_daemon(short_path / "d.sock", timeout=0.1)


def test_the_program_stands_beside_python_or_on_path(
    short_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", str(short_path / "python"))
    assert daemon_process.find_program() == str(program)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", str(short_path))
    assert daemon_process.find_program() == str(program)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SessionUnavailable, match="not installed"):
        daemon_process.find_program()


def test_looking_at_a_lock_leaves_it_free(short_path: Path) -> None:
    lock = daemon_lock.lock_path(short_path / "d.sock")
    lock.touch()
    assert not daemon_lock.is_locked(short_path / "d.sock")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert daemon_lock.is_locked(short_path / "d.sock")
