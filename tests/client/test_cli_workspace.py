"""`sessionctl workspace`, `pin`, `unpin` and `watch`: what they ask, and what they print in a pipe."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.client.events import EVENTS, event
from tests.client.fake_daemon import FakeDaemon
from tests.client.terminal import on_a_terminal, program

from sessiond.client.cli.main import cli
from sessiond.v1 import context_pb2, session_service_pb2, workspace_service_pb2

Run = Callable[..., Result]


@pytest.fixture
def run(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `sessionctl` in a folder against the fake daemon."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--socket", str(daemon.socket), *arguments], prog_name="sessionctl")

    return invoke


def _segment(
    path: str, start: int, end: int, cost: float, **states: bool
) -> workspace_service_pb2.WorkspaceSegment:
    return workspace_service_pb2.WorkspaceSegment(
        segment=context_pb2.ManifestSegment(id=f"file:{path}", path=path, token_start=start, token_end=end),
        edit_cost_tokens=cost,
        **states,
    )


def _workspace() -> workspace_service_pb2.GetWorkspaceResponse:
    return workspace_service_pb2.GetWorkspaceResponse(
        segments=[
            workspace_service_pb2.WorkspaceSegment(
                segment=context_pb2.ManifestSegment(id="frame", token_end=4), edit_cost_tokens=1506.5
            ),
            _segment("a\x1b[31m.py", 4, 1304, 854.0, pinned=True, buffered=True),
            _segment("b.py", 1304, 1508, 102.0, pinned=True),
        ],
        left_out=[
            context_pb2.LeftOut(path="x.o", reason="binary"),
            context_pb2.LeftOut(path="y.o", reason="binary"),
            context_pb2.LeftOut(path=".env", reason="secret"),
        ],
        watcher_state="watching",
        keep_hot_state="idle",
        expected_edit_cost=context_pb2.ExpectedEditCost(tokens=1234.4, by_path_tokens=5678.0),
    )


def test_workspace_is_lines_in_a_pipe(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["GetWorkspace"] = _workspace()
    edit_cost = (
        "edit cost: about 1,234 tokens are computed again for an edit; "
        "it would be 5,678 with the files in alphabetical order"
    )
    done = run("workspace")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{tmp_path}: 3 segments, 1,508 tokens",
        "watcher: watching",
        "keep-hot: idle",
        edit_cost,
        "4\t1,506\t\tframe",
        "1,300\t854\tpinned, buffered\ta[31m.py",
        "204\t102\tpinned\tb.py",
        "left out, binary: 2",
        "left out, secret: 1",
    ]
    assert daemon.request().workspace_root == str(tmp_path)


def test_workspace_takes_a_root(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    told = json.loads(run("workspace", "inner", "--json").stdout)
    assert told == {"segments": [], "left_out": [], "watcher_state": "", "keep_hot_state": ""}
    assert daemon.request().workspace_root == str(tmp_path / "inner")
    daemon.answers["GetWorkspace"] = _workspace()
    told = json.loads(run("workspace", "--json").stdout)
    assert told["segments"][1]["edit_cost_tokens"] == 854.0
    assert (told["segments"][2]["pinned"], told["segments"][2]["buffered"]) == (True, False)
    assert told["left_out"][2]["reason"] == "secret"
    assert told["expected_edit_cost"] == {"tokens": 1234.4, "by_path_tokens": 5678.0}


def test_on_a_terminal_a_workspace_is_a_table(daemon: FakeDaemon) -> None:
    daemon.answers["GetWorkspace"] = _workspace()
    said = on_a_terminal(program(daemon, "workspace"))
    assert "EDIT COST" in said and "keep-hot: idle" in said
    assert "\x1b[31m" not in said


@pytest.mark.parametrize(("command", "word"), [("pin", "pinned"), ("unpin", "not pinned")])
def test_pins_are_paths_of_the_workspace(
    run: Run, daemon: FakeDaemon, tmp_path: Path, command: str, word: str
) -> None:
    done = run(command, "./a.py", "src//b.py", str(tmp_path / "c.py"), "../d.py", "/e.py")
    assert (done.exit_code, done.stdout) == (0, f"{word}: a.py, src/b.py, c.py, ../d.py, /e.py\n")
    assert daemon.request().workspace_root == str(tmp_path)
    assert list(daemon.request().paths) == ["a.py", "src/b.py", "c.py", "../d.py", "/e.py"]
    (tmp_path / "inner").mkdir()
    assert run(command, "--dir", "inner", "a.py", "--json").stdout == "{}\n"
    assert daemon.request().workspace_root == str(tmp_path / "inner")
    assert list(daemon.request().paths) == ["a.py"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["pin"],
        ["unpin"],
        ["pin", "--dir", "/nowhere", "a"],
        ["workspace", "/nowhere"],
        ["watch", "1", "--dir", "/"],
    ],
)
def test_wrong_usage_is_status_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_watch_is_a_line_for_each_event_in_a_pipe(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["WatchSession"] = [*EVENTS, session_service_pb2.WatchSessionResponse()]
    done = run("watch", "7")
    assert done.exit_code == 0
    assert daemon.request().name == "sessions/7"
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(line) == 3 and line[0].count(":") == 2 for line in lines)
    assert [line[1:] for line in lines] == [
        ["state", "busy"],
        ["files", "a[31m.py, b.py"],
        ["keep-hot", "started"],
        ["prefill", "keep-hot: 512 of 2,048 tokens"],
        ["keep-hot", "finished: 34 tokens computed, 412 ms after the save"],
        ["keep-hot", "superseded after 12 tokens"],
        ["invalidated", "a.py changed at byte 7 (1,536 tokens)"],
        ["fault", "SESSION_FATAL: signal 6"],
        ["state", "closed"],
    ]


def test_watch_names_a_few_files_of_many(run: Run, daemon: FakeDaemon) -> None:
    paths = [f"{number}.py" for number in range(1234)]
    daemon.answers["WatchSession"] = [
        event(files_changed=session_service_pb2.FilesChanged(paths=paths)),
        event(files_changed=session_service_pb2.FilesChanged()),
    ]
    many, any_of_them = run("watch", "7").stdout.splitlines()
    assert many.endswith("\tfiles\t0.py, 1.py, 2.py, 3.py, 4.py, and 1,229 more")
    assert any_of_them.endswith("\tfiles\tany of them may have changed")


def test_watch_streams_one_object_a_line(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["WatchSession"] = EVENTS
    told = [json.loads(line)["event"] for line in run("watch", "7", "--json").stdout.splitlines()]
    assert [each["time_ms"] for each in told] == [each.event.time_ms for each in EVENTS]
    assert told[0]["state"] == "SESSION_STATE_BUSY"
    assert told[1]["files_changed"] == {"paths": ["a\x1b[31m.py", "b.py"]}
    assert told[4]["keep_hot"] == {"phase": "finished", "prefilled_tokens": 34, "lag_ms": 412.0}


def test_watch_takes_the_session_used_last_over_the_folder(
    run: Run, daemon: FakeDaemon, tmp_path: Path
) -> None:
    assert run("watch").exit_code == 1
    daemon.answers["ListSessions"] = session_service_pb2.ListSessionsResponse(
        sessions=[
            session_service_pb2.Session(name="sessions/1", workspace_root=str(tmp_path), last_used_ms=2),
            session_service_pb2.Session(name="sessions/2", workspace_root="/", last_used_ms=9),
        ]
    )
    assert run("watch").exit_code == 0
    assert daemon.request().name == "sessions/1"


def test_an_interrupt_ends_a_watch_with_status_130(daemon: FakeDaemon) -> None:
    daemon.endless, daemon.answers["WatchSession"] = True, EVENTS[:1]
    with subprocess.Popen(
        program(daemon, "watch", "7"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().endswith("\tstate\tbusy\n")
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=10)
        assert watching.returncode == 130
    assert "Traceback" not in said
    assert daemon.cancelled.wait(5)
