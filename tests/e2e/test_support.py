"""The support bundle of a real daemon: marked text is planted wherever somebody says something, and found nowhere in it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.daemon import PROGRAMS, eventually, is_gone, own_environment

from sessiond.client import Client, Config, SessiondError

MARK = "Quetzalcoatl"
TOKEN = f"{MARK}-token"
FOLDER = f"{MARK}-folder"


class Shell:
    """Runs `sessionctl` in an environment of its own, in which all that can be named bears the mark."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / FOLDER
        self.root.mkdir()
        self.socket = folder / "s.sock"
        self.environ = own_environment(folder) | {
            "SESSIOND_SOCKET": str(self.socket),
            "SESSIOND_TOKEN": TOKEN,
            "SESSIOND_MODEL": f"scripted-kv:num_ctx=4096,weights={MARK}-weights",
            "SESSIOND_STATE_DIR": str(folder / f"{MARK}-state"),
            "SESSIOND_LOG_FORMAT": "json",
            "SESSIOND_LOG_LEVEL": "debug",
            "SESSIOND_METRICS": "127.0.0.1:0",
            "SESSIOND_MEASURE": "false",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command, in the marked folder."""
        return subprocess.run(
            [str(PROGRAMS / "sessionctl"), *arguments],
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def bundle(self) -> tuple[Path, dict[str, str]]:
        """A new one, and the texts in it by their names."""
        done = self.run("support", "--json")
        assert done.returncode == 0, done.stderr
        path = Path(json.loads(done.stdout)["path"])
        with tarfile.open(path) as tar:
            files = {
                Path(entry.name).name: file.read().decode()
                for entry in tar
                if (file := tar.extractfile(entry)) is not None
            }
        return path, files

    def log(self) -> str:
        """What the daemon wrote."""
        [path] = Path(self.environ["HOME"]).parent.rglob("sessiond.log")
        return path.read_text("utf-8", "replace")


@pytest.fixture
def shell(folder: Path) -> Iterator[Shell]:
    """No daemon is left behind."""
    made = Shell(folder)
    yield made
    assert made.run("stop", "--json").returncode == 0


def _plant(shell: Shell) -> None:
    """Marked text in files, their names, questions, answers, keys, buffers, pins, errors and names that do not exist."""
    (shell.root / f"{MARK}_name.py").write_text(f"{MARK}_content = 1\n")
    (shell.root / f".{MARK}ignored").write_text(MARK)
    assert shell.run("ask", "--key", f"{MARK}-key", f"{MARK}-question?").returncode == 0
    with Client(shell.socket, token=TOKEN, timeout=60) as client:
        session = client.open_session(shell.root, key=f"{MARK}-other", config=Config(prompt_format="raw"))
        list(session.complete(f"{MARK}-suffix", prefix=f"{MARK}-prefix", stop=[f"{MARK}-stop"], max_tokens=4))
        workspace = client.workspace(shell.root)
        workspace.pin(f"{MARK}_name.py")
        workspace.set_buffer(f"{MARK}_name.py", f"{MARK}-unsaved")
        session.ensure_prefix(workspace=True)
        (shell.root / f"{MARK}_name.py").write_text(f"{MARK}_edited = 2\n")
        for fault in (
            lambda: client.session(f"sessions/{MARK}").info(),
            lambda: client.session("sessions/unknown").info(),
            lambda: client.open_session(f"/{MARK}/nowhere"),
            lambda: client.open_session(model=f"{MARK}-model"),
            lambda: client.open_session(config=Config(kv_cache_type=f"{MARK}-type")),
            lambda: workspace.pin(f"../{MARK}"),
        ):
            with pytest.raises(SessiondError):
                fault()


def _assert_silent(path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        assert MARK.lower() not in text.lower(), name
    home = str(path.parent.parent)
    assert [name for name, text in files.items() if home in text] == []


def test_nothing_that_anybody_said_is_in_it(shell: Shell) -> None:
    _plant(shell)
    assert MARK in shell.log()  # it was said, and would be found
    path, files = shell.bundle()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(files) == {
        *("README.txt", "versions.json", "machine.json", "status.json", "settings.json", "backends.json"),
        *("metrics.txt", "log.jsonl"),
    }
    _assert_silent(path, files)
    settings = json.loads(files["settings.json"])
    assert settings["token"] == settings["model"] == settings["socket"] == settings["metrics"] == "given"
    assert settings["log_level"] == "debug"
    records = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    methods = {record.get("method") for record in records}
    assert {"SessionService/Complete", "WorkspaceService/PinFiles"} <= methods
    assert {"INVALID_INPUT", "SESSION_NOT_FOUND"} <= {record.get("reason") for record in records}
    assert json.loads(files["versions.json"])["daemon"]["prometheus-client"]
    assert 'sessiond_turns_total{method="Complete",outcome="ok"} 2.0' in files["metrics.txt"]
    assert json.loads(files["status.json"])["runtime"]["activity"]["turns"]


def test_a_daemon_that_was_killed_leaves_its_log_to_the_bundle(shell: Shell) -> None:
    _plant(shell)
    pid = json.loads(shell.run("status", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid), "it is gone")
    path, files = shell.bundle()
    _assert_silent(path, files)
    assert set(files) == {"README.txt", "versions.json", "machine.json", "log.jsonl"}
    assert "status.json: SESSION_UNAVAILABLE" in files["README.txt"]
    assert any(json.loads(line).get("event") == "daemon.serving" for line in files["log.jsonl"].splitlines())


def test_a_wrong_token_gets_nothing_of_the_daemon(shell: Shell) -> None:
    _plant(shell)
    told = shell.environ["SESSIOND_TOKEN"]
    shell.environ["SESSIOND_TOKEN"] = f"{MARK}-wrong"
    path, files = shell.bundle()
    shell.environ["SESSIOND_TOKEN"] = told
    _assert_silent(path, files)
    assert "status.json: PERMISSION_DENIED" in files["README.txt"]
    assert not {"status.json", "settings.json", "metrics.txt", "backends.json"} & files.keys()
