"""`sessionctl snapshot`: what it asks, and what it prints in a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.client.fake_daemon import FakeDaemon

from sessiond.client.cli.main import cli
from sessiond.v1 import session_service_pb2 as pb

Run = Callable[..., Result]


@pytest.fixture
def run(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `sessionctl snapshot` in a folder over which two sessions stand."""
    monkeypatch.chdir(tmp_path)
    daemon.answers["ListSessions"] = pb.ListSessionsResponse(
        sessions=[
            pb.Session(name="sessions/a", workspace_root=str(tmp_path), key="x", last_used_ms=2),
            pb.Session(name="sessions/b", workspace_root=str(tmp_path), key="y", last_used_ms=1),
        ]
    )
    daemon.answers["SaveSnapshot"] = pb.SaveSnapshotResponse(size_bytes=1_234_567)
    daemon.answers["RestoreSnapshot"] = pb.RestoreSnapshotResponse(
        session=pb.Session(name="sessions/a", resident_tokens=1_990)
    )

    def invoke(*arguments: str) -> Result:
        command = ["--socket", str(daemon.socket), "snapshot", *arguments]
        return CliRunner().invoke(cli, command, prog_name="sessionctl")

    return invoke


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("save", "sessions/a: 1,234,567 bytes in f\n"),
        ("restore", "sessions/a: 1,990 tokens from f\n"),
    ],
)
def test_the_session_over_the_folder_that_was_used_last(
    run: Run, daemon: FakeDaemon, tmp_path: Path, command: str, said: str
) -> None:
    done = run(command, "f")
    assert (done.exit_code, done.stdout, done.stderr) == (0, said, "")
    assert (daemon.request().name, daemon.request().path) == ("sessions/a", str(tmp_path / "f"))


@pytest.mark.parametrize("command", ["save", "restore"])
@pytest.mark.parametrize(
    ("options", "name"), [(["--key", "y"], "sessions/b"), (["--session", "c"], "sessions/c")]
)
def test_another_session(run: Run, daemon: FakeDaemon, command: str, options: list[str], name: str) -> None:
    assert run(command, *options, "/elsewhere/f").exit_code == 0
    assert (daemon.request().name, daemon.request().path) == (name, "/elsewhere/f")


def test_json(run: Run) -> None:
    assert json.loads(run("save", "f", "--json").stdout) == {"size_bytes": "1234567"}
    assert json.loads(run("restore", "f", "--json").stdout)["session"]["resident_tokens"] == 1990


@pytest.mark.parametrize("command", ["save", "restore"])
def test_wrong_usage(run: Run, daemon: FakeDaemon, tmp_path: Path, command: str) -> None:
    for arguments in ([], ["f", "g"], ["--session", "a", "--key", "x", "f"]):
        assert run(command, *arguments).exit_code == 2
    assert not any(
        isinstance(each, pb.SaveSnapshotRequest | pb.RestoreSnapshotRequest) for each in daemon.requests
    )
    (tmp_path / "empty").mkdir()
    assert run(command, "--dir", "empty", "f").exit_code == 1
