"""`sessionctl support` and the figures of `sessionctl status`, against a daemon that says what a test wants."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.client.fake_daemon import FakeDaemon

from sessiond.client.cli.main import cli
from sessiond.v1 import errors, model_service_pb2

Run = Callable[..., Result]
ALWAYS = {"README.txt", "machine.json", "versions.json"}
OF_A_DAEMON = {"status.json", "settings.json", "backends.json", "metrics.txt"}


@pytest.fixture
def run(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `sessionctl` against the fake daemon, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--socket", str(daemon.socket), *arguments], prog_name="sessionctl")

    return invoke


def _files(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {
            Path(entry.name).name: file.read().decode()
            for entry in tar
            if (file := tar.extractfile(entry)) is not None
        }


def _supported() -> model_service_pb2.GetRuntimeResponse:
    return model_service_pb2.GetRuntimeResponse(
        kv_bytes=7,
        arenas=[model_service_pb2.ArenaRuntime(workspace_root="/private", cells=3)],
        support=model_service_pb2.SupportFacts(
            settings={"num_ctx": "4096", "token": "given"},
            versions={"python": "3.11.0"},
            metrics="sessiond_engines 1\n",
            backends=[model_service_pb2.BackendFacts(backend="b", backend_version="1", size_bytes=9)],
        ),
    )


def test_it_asks_the_daemon_once_and_writes_what_it_says(
    run: Run, daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.answers["GetRuntime"] = _supported()
    (tmp_path / "log").write_text("not a record\n")
    done = run("support", "--json", "--log", "log")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    path = Path(told["path"])
    assert path.parent == tmp_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files = _files(path)
    assert set(told["files"]) == set(files) == ALWAYS | OF_A_DAEMON | {"log.jsonl"}
    assert told["missing"] == {}
    assert json.loads(files["settings.json"]) == {"num_ctx": "4096", "token": "given"}
    assert json.loads(files["backends.json"]) == [
        {"backend": "b", "backend_version": "1", "model_digest": "", "size_bytes": 9}
    ]
    assert files["metrics.txt"] == "sessiond_engines 1\n"
    assert json.loads(files["status.json"])["runtime"]["kv_bytes"] == 7
    assert json.loads(files["log.jsonl"]) == {"unreadable_lines": 1}
    assert "/private" not in "".join(files.values())
    assert [type(each).__name__ for each in daemon.requests] == ["GetRuntimeRequest"]
    assert daemon.request().with_support


def test_without_a_daemon_it_says_what_is_missing(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.stop()
    done = run("support", "--output", "here.tar.gz")
    assert done.exit_code == 0, done.output
    assert "missing: status.json (SESSION_UNAVAILABLE)" in done.stdout
    files = _files(tmp_path / "here.tar.gz")
    assert set(files) == ALWAYS
    assert "status.json: SESSION_UNAVAILABLE" in files["README.txt"]
    assert "log.jsonl: INVALID_INPUT" in files["README.txt"]
    assert str(daemon.socket) not in "".join(files.values())


def test_a_refusal_is_a_reason_and_no_more(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.raises = errors.PermissionDenied("a secret sentence")
    assert run("support", "--output", "here.tar.gz").exit_code == 0
    files = _files(tmp_path / "here.tar.gz")
    assert "status.json: PERMISSION_DENIED" in files["README.txt"]
    assert "secret sentence" not in "".join(files.values())


def test_a_daemon_that_knows_of_no_support_is_an_older_one(
    run: Run, daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.answers["GetRuntime"] = model_service_pb2.GetRuntimeResponse(kv_bytes=1)
    assert run("support", "--output", "here.tar.gz").exit_code == 0
    assert set(_files(tmp_path / "here.tar.gz")) == ALWAYS | {"status.json"}


def test_it_overwrites_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = run("support", "--output", "mine", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stderr)["error"]["reason"] == "INVALID_INPUT"
    assert (tmp_path / "mine").read_text() == "mine"


def test_status_says_in_short_what_the_metrics_say(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["GetRuntime"] = model_service_pb2.GetRuntimeResponse(
        activity=model_service_pb2.Activity(
            uptime_ms=90_000,
            sessions=3,
            busy_sessions=1,
            queue_length=2,
            queue_wait_ms=12,
            turns=1200,
            failed_turns=4,
            reused_tokens=5000,
            restored_tokens=60,
            prefilled_tokens=700,
            generated_tokens=80,
            first_tokens=[model_service_pb2.FirstTokens(kind="warm", turns=9, mean_ms=187)],
            dropped_tokens=11,
            keep_hot_tokens=900,
            superseded_tokens=100,
            engine_deaths=2,
            engine_restarts=1,
            memory_tier_bytes=3 << 20,
            disk=model_service_pb2.DiskTier(open=1, entries=5, size_bytes=1 << 20, limit_bytes=1 << 30),
        )
    )
    said = run("status").stdout
    for line in (
        "up:          1 min 30 s",
        "busy:        1 of 3 sessions; 2 in the queue, 12 ms of waiting in the mean",
        "turns:       1,200, 4 of them failed",
        "             first token warm: 187 ms in the mean of 9",
        "tokens:      5,000 of prefixes reused, 60 restored, 700 computed; 80 answered",
        "keep-hot:    900 tokens computed, 100 of them superseded",
        "memory:      3.0 MiB of KV beside the cells; 11 tokens dropped for room",
        "disk:        5 entries, 1.0 MiB of at most 1.0 GiB; 0 B to be written, 0 entries failed",
        "engines:     2 died, 1 started again",
    ):
        assert line in said.splitlines()
    assert json.loads(run("status", "--json").stdout)["runtime"]["activity"]["turns"] == "1200"


def test_status_of_a_daemon_that_tells_none_of_it_has_no_such_lines(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["GetRuntime"] = model_service_pb2.GetRuntimeResponse(kv_bytes=1)
    assert not {"up:", "turns:", "tokens:"} & {
        line.partition(" ")[0] for line in run("status").stdout.splitlines()
    }
