"""The command line against a real daemon that it starts itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.daemon import PROGRAMS, eventually, is_gone, own_environment, short_folder

SCRIPTED = "scripted-kv:num_ctx=4096"


class Shell:
    """Runs `sessionctl` in an environment of its own."""

    def __init__(self, folder: Path, model: str = SCRIPTED) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "main.py").write_text("def main():\n    return 42\n")
        self.environ = own_environment(folder) | {"SESSIOND_LOG_FORMAT": "json"}
        if model:
            self.environ["SESSIOND_MODEL"] = model

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """One command, whatever becomes of it."""
        return subprocess.run(
            [str(PROGRAMS / "sessionctl"), *arguments],
            cwd=self.project,
            env=self.environ,
            input=text,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def json(self, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
        """The objects that a command prints."""
        ended = self.run(*arguments, "--json")
        assert ended.returncode == status, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def end(self) -> None:
        """No daemon is left behind."""
        ended = self.run("stop", "--json")
        assert ended.returncode == 0, ended.stderr


@pytest.fixture
def shell(folder: Path) -> Iterator[Shell]:
    """Without a daemon, yet."""
    made = Shell(folder)
    yield made
    made.end()


@pytest.fixture(scope="module")
def running() -> Iterator[Shell]:
    """With a daemon that the first command started."""
    with short_folder() as folder:
        made = Shell(folder)
        made.environ["SESSIOND_KEEP_HOT"] = "false"  # or an edit might be computed before it is asked for
        made.json("ask", "--max-tokens", "4", "What", "is", "it?")
        yield made
        made.end()


def test_ask_starts_a_daemon_and_answers(shell: Shell) -> None:
    assert shell.run("status").returncode == 1
    events = shell.json("ask", "--max-tokens", "5", "What is it?")
    kinds = [next(iter(event)) for event in events]
    assert kinds[:2] == ["prefix_status", "suffix_status"]
    assert set(kinds[2:]) == {"chunk"}
    assert events[0]["prefix_status"]["prefilled_tokens"] > 0
    assert events[-1]["chunk"]["summary"]["finish_reason"] in {"FINISH_REASON_LENGTH", "FINISH_REASON_STOP"}
    [status] = shell.json("status")
    assert status["health"] == "SERVING" and status["sessions"] == 1
    assert psutil.pid_exists(status["pid"])
    [stopped] = shell.json("stop")
    assert stopped == {"stopped": True, "pid": status["pid"]}
    eventually(lambda: is_gone(status["pid"]), "it has ended")
    [status] = shell.json("status", status=1)
    assert status["health"] == "NOT_RUNNING"
    assert shell.json("stop") == [{"stopped": False, "pid": None}]


def test_two_racing_asks_both_succeed(shell: Shell) -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda i: shell.run("ask", "--key", str(i), "--max-tokens", "3", "x", "--json"), range(2)))  # fmt: skip
    assert [each.returncode for each in ended] == [0, 0], [each.stderr for each in ended]
    [listed] = shell.json("ps")
    assert len(listed["sessions"]) == 2


def test_two_asks_of_one_session_at_once_both_succeed(running: Shell) -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: running.run("ask", "--max-tokens", "1", "x", "--json"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], [each.stderr for each in ended]


def test_a_second_ask_finds_the_folder_hot(running: Shell) -> None:
    status = running.json("ask", "--max-tokens", "2", "And", "now?")[0]["prefix_status"]
    assert status["reused_tokens"] == status["prefix_tokens"] > 0
    assert status["prefilled_tokens"] == 0


def test_ask_prints_plain_text_in_a_pipe(running: Shell) -> None:
    ended = running.run("ask", "--max-tokens", "6", "What?")
    assert ended.returncode == 0
    assert ended.stdout.endswith("\n")
    assert "\x1b" not in ended.stdout


def test_ask_reads_standard_input(running: Shell) -> None:
    ended = running.run("ask", "--max-tokens", "1", "--json", "-", text="What is it?")
    assert ended.returncode == 0, ended.stderr


def test_ensure(running: Shell) -> None:
    running.json("ensure")
    [answer] = running.json("ensure")
    assert answer["status"]["prefilled_tokens"] == 0
    assert answer["status"]["reuse_source"] == "REUSE_SOURCE_COUNTED"
    assert "total_ms" in answer["timings"]


def test_ensure_after_an_edit_computes_only_what_changed(running: Shell) -> None:
    (running.project / "zz.py").write_text("x = 1\n" * 20)
    running.json("ensure")
    (running.project / "zz.py").write_text("x = 1\n" * 20 + "y = 2\n")
    [answer] = running.json("ensure")
    assert 0 < answer["status"]["prefilled_tokens"] < answer["status"]["prefix_tokens"] / 2
    [explained] = running.json("explain")
    assert explained["report"]["last_miss"]["path"] == "zz.py"


def test_explain(running: Shell) -> None:
    running.json("ensure")
    [answer] = running.json("explain")
    report = answer["report"]
    paths = [segment["segment"]["path"] for segment in report["segments"]]
    assert "main.py" in paths
    assert report["resident_tokens"] >= report["prefix_tokens"] > 0
    ended = running.run("explain")
    assert ended.returncode == 0 and "main.py" in ended.stdout


def test_ps_and_close(running: Shell) -> None:
    running.json("ask", "--key", "second", "--max-tokens", "1", "x")
    [listed] = running.json("ps")
    found = next(session for session in listed["sessions"] if session["key"] == "second")
    assert found["workspace_root"] == str(running.project.resolve())
    assert found["state"] == "SESSION_STATE_READY"
    [closed] = running.json("close", found["name"])
    assert closed["session"]["state"] == "SESSION_STATE_CLOSED"
    assert running.run("ps").stdout.count("\n") == len(listed["sessions"]) - 1
    ended = running.run("--json", "close", found["name"])
    assert ended.returncode == 1
    assert json.loads(ended.stderr)["error"]["reason"] == "SESSION_CLOSED"


def test_tokenize(running: Shell) -> None:
    [plain] = running.json("tokenize", "x<|im_end|>")
    [special] = running.json("tokenize", "--special", "x<|im_end|>")
    assert len(plain["token_ids"]) > len(special["token_ids"]) == 2


def test_models(running: Shell) -> None:
    [answer] = running.json("models")
    assert any(model["source"] == "embedded" for model in answer["models"])


def test_models_shows_the_default_that_is_loaded(running: Shell) -> None:
    [answer] = running.json("models")
    assert [model["is_loaded"] for model in answer["models"] if model["is_default"]] == [True]


def test_status_names_the_model(running: Shell) -> None:
    [status] = running.json("status")
    assert status["model"] == SCRIPTED
    assert status["version"] and status["pid"]


def test_logs(running: Shell) -> None:
    lines = [answer["line"] for answer in running.json("logs", "-n", "1000")]
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert "daemon.serving" in events and "rpc" in events
    assert len(running.json("logs", "-n", "3")) == 3


def test_errors_are_json_on_standard_error(running: Shell) -> None:
    ended = running.run("--json", "explain", "sessions/none")
    assert ended.returncode == 1 and not ended.stdout
    error = json.loads(ended.stderr)["error"]
    assert error["reason"] == "SESSION_NOT_FOUND"
    assert error["metadata"] == {"name": "sessions/none"}
    assert error["detail"] is None
    ended = running.run("--json", "ask", "--model", "/nowhere.gguf", "x")
    error = json.loads(ended.stderr)["error"]
    assert error["detail"]["field_violations"][0]["field"] == "model"


def test_no_start_starts_nothing(shell: Shell) -> None:
    ended = shell.run("--no-start", "--json", "ps")
    assert ended.returncode == 1
    assert json.loads(ended.stderr)["error"]["reason"] == "SESSION_UNAVAILABLE"
    assert shell.run("status").returncode == 1


def test_a_daemon_that_cannot_start_says_why(folder: Path) -> None:
    shell = Shell(folder, "/nowhere/none.gguf")
    ended = shell.run("--json", "ask", "x")
    assert ended.returncode == 1
    error = json.loads(ended.stderr)["error"]
    assert error["reason"] == "SESSION_UNAVAILABLE"
    assert "none.gguf" in error["message"]


@pytest.mark.model
def test_ask_with_nothing_configured_answers_with_the_embedded_model(folder: Path) -> None:
    shell = Shell(folder, "")
    try:
        events = shell.json("ask", "--max-tokens", "8", "--temperature", "0", "What does main return?")
        assert "".join(event["chunk"]["text"] for event in events[2:]).strip()
        [status] = shell.json("status")
        assert status["model"] == "smollm2-135m-instruct"
    finally:
        shell.end()


def test_a_pinned_file_is_shown_as_pinned(running: Shell) -> None:
    assert running.json("pin", "main.py") == [{}]
    [told] = running.json("workspace")
    [segment] = [each for each in told["segments"] if each["segment"]["path"] == "main.py"]
    assert segment["pinned"] is True
    assert segment["edit_cost_tokens"] > 0
    said = running.run("workspace").stdout
    assert "\tpinned\tmain.py\n" in said
    assert running.run("unpin", "main.py").stdout == "not pinned: main.py\n"
    refused = running.run("pin", "../outside.py", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stderr)["error"]["metadata"] == {"fields": "paths[0]"}
