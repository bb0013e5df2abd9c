"""The command line: what it asks of the daemon, its two forms of output, and its exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tests.client.every_error import EVERY_ERROR
from tests.client.fake_daemon import VERSION, FakeDaemon, turn

from sessiond.client.cli.catalog import CATALOG
from sessiond.client.cli.main import cli
from sessiond.client.daemon_process import log_path
from sessiond.client.settings import settings_path
from sessiond.v1 import config_pb2, context_pb2, errors, model_service_pb2, session_service_pb2

Run = Callable[..., Result]


@pytest.fixture
def run(daemon: FakeDaemon) -> Run:
    """Runs `sessionctl` against the fake daemon."""

    def invoke(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(
            cli, ["--socket", str(daemon.socket), *arguments], input=stdin, prog_name="sessionctl"
        )

    return invoke


def test_the_catalog_says_what_the_commands_say() -> None:
    context = cli.make_context("sessionctl", ["status"])
    for name, entry in CATALOG.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(200) == entry.help
    assert list(CATALOG) == sorted(CATALOG)


@pytest.mark.parametrize("name", list(CATALOG))
def test_each_command_has_help_and_json(name: str) -> None:
    command = cli.get_command(cli.make_context("sessionctl", ["status"]), name)
    inner = list(command.commands) if isinstance(command, click.Group) else []
    for called in [[name, each] for each in inner] or [[name]]:
        done = CliRunner().invoke(cli, [*called, "--help"])
        assert done.exit_code == 0
        assert "--json" in done.output


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["--nonsense"], ["ask"], ["close"], ["tokenize"], ["completion", "ksh"], ["logs", "-n", "-1"],
     ["ask", "--dir", "/nowhere", "x"], ["ask", "--session", "1", "--dir", "/", "x"], ["explain", "1", "--dir", "/"],
     ["ask", "--max-tokens", "many", "x"], ["--socket", "/a", "--address", "b:1", "ps"], ["--address", "b:1", "stop"]],
)  # fmt: skip
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.reason)
def test_an_error_is_status_1_and_an_object_on_standard_error(
    run: Run, daemon: FakeDaemon, error: errors.SessiondError
) -> None:
    daemon.raises = error
    done = run("ps", "--json")
    assert done.exit_code == 1
    assert done.stdout == ""
    told = json.loads(done.stderr)
    assert list(told) == ["error"]
    assert list(told["error"]) == ["reason", "message", "metadata", "detail"]
    assert told["error"]["reason"] == error.reason
    assert told["error"]["message"] == error.message
    assert told["error"]["metadata"] == error.metadata()
    plain = run("ps")
    assert plain.exit_code == 1
    assert plain.stderr == f"error: {error.message}\n"


def test_the_detail_of_an_error_is_its_message_as_json(run: Run, daemon: FakeDaemon) -> None:
    daemon.raises = errors.invalid("name", "is empty")
    violation = json.loads(run("--json", "ps").stderr)["error"]["detail"]["field_violations"][0]
    assert (violation["field"], violation["description"]) == ("name", "is empty")
    daemon.raises = errors.ContextOverflow("prefix", 1, 2, 3)
    detail = json.loads(run("--json", "ps").stderr)["error"]["detail"]
    figures = {"resident_tokens": "1", "additional_tokens": "2", "num_ctx": "3"}
    assert detail == {"stage": "prefix", "arguments": [], **figures}
    daemon.raises = errors.SessionBusy("sessions/1")
    assert json.loads(run("--json", "ps").stderr)["error"]["detail"] is None


def test_an_error_in_a_stream_follows_what_came_before(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = turn("a", "b")
    daemon.raises, daemon.raises_after = errors.SessionFatal("signal 6"), 3
    daemon.answers["OpenSession"] = session_service_pb2.OpenSessionResponse()
    done = CliRunner().invoke(
        cli, ["--socket", str(daemon.socket), "ask", "--session", "1", "--no-workspace", "--json", "x"]
    )
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 3
    assert json.loads(done.stderr)["error"]["reason"] == "SESSION_FATAL"


def test_no_start_starts_nothing(short_path: Path) -> None:
    done = CliRunner().invoke(cli, ["--socket", str(short_path / "none.sock"), "--no-start", "--json", "ps"])
    assert done.exit_code == 1
    assert json.loads(done.stderr)["error"]["reason"] == "SESSION_UNAVAILABLE"
    assert not log_path().exists()


def test_json_is_the_answer_with_original_names_and_empty_fields(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["ListSessions"] = session_service_pb2.ListSessionsResponse(
        sessions=[
            session_service_pb2.Session(name="sessions/1", state=session_service_pb2.SESSION_STATE_READY)
        ]
    )
    for arguments in (["--json", "ps"], ["ps", "--json"]):
        done = run(*arguments)
        assert done.stdout.count("\n") == 1
        session = json.loads(done.stdout)["sessions"][0]
        assert session["name"] == "sessions/1"
        assert session["state"] == "SESSION_STATE_READY"
        assert session["workspace_root"] == ""
        assert session["prefix_tokens"] == 0
    assert run("ps").stdout == "sessions/1\tready\t0\t0\tnever\t\t\t\n"


def test_ask_streams_text(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["Complete"] = turn("Hel", "lo")
    done = run("ask", "--dir", str(tmp_path), "--max-tokens", "5", "--temperature", "0.5", "why", "so?")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Hello\n", "")
    opened, asked = daemon.requests
    assert opened.workspace_root == str(tmp_path)
    assert asked.prefix.HasField("workspace")
    assert asked.suffix.messages.messages[0].content == "why so?"
    assert asked.suffix.mode == context_pb2.SUFFIX_MODE_REPLACE
    assert (asked.config.max_tokens, asked.config.temperature) == (5, 0.5)


def test_ask_says_what_the_answer_has_to_follow(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["Complete"] = turn("x")
    grammar, schema = tmp_path / "g.gbnf", tmp_path / "s.json"
    grammar.write_text('root ::= "ä"\n')
    schema.write_text("{}")
    for options, field, value in (
        (["--grammar", str(grammar)], "grammar", 'root ::= "ä"\n'),
        (["--json-schema", str(schema)], "json_schema", "{}"),
        (["--choice", "yes", "--choice", "no"], "choices", ["yes", "no"]),
        (["--logprobs", "3"], "logprobs", 3),
    ):
        assert run("ask", "--no-workspace", *options, "why?").exit_code == 0
        assert getattr(daemon.requests[-1].config, field) == value


def test_ask_takes_one_rule_for_an_answer(run: Run, tmp_path: Path) -> None:
    assert run("ask", "--grammar", str(tmp_path / "none"), "why?").exit_code == 2
    assert run("ask", "--grammar", "-", "--choice", "a", "why?").exit_code == 2


def test_ask_streams_one_object_a_line(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = turn("Hel\x1b[31m", "lö")
    done = run("ask", "--json", "why?")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(event)) for event in events] == [
        "prefix_status",
        "suffix_status",
        "chunk",
        "chunk",
        "chunk",
    ]
    assert events[0]["prefix_status"]["reused_tokens"] == 7
    assert events[2]["chunk"]["text"] == "Hel\x1b[31m"
    assert events[4]["chunk"]["summary"]["finish_reason"] == "FINISH_REASON_STOP"


def test_ask_reads_standard_input(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = turn("x")
    run("ask", "-", stdin="from stdin\nü".encode() + b"\xff")
    assert daemon.request().suffix.messages.messages[0].content == "from stdin\nü\ufffd"


def test_ask_without_workspace_opens_none(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = turn("x")
    run("ask", "--no-workspace", "why?")
    opened, asked = daemon.requests
    assert opened.workspace_root == ""
    assert not asked.HasField("prefix")


def test_ask_a_session_by_name(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = turn("x")
    run("ask", "--session", "7", "why?")
    info, asked = daemon.requests
    assert info.name == asked.name == "sessions/7"
    assert not asked.HasField("prefix")  # the daemon says that it has no workspace
    daemon.answers["GetSession"] = session_service_pb2.GetSessionResponse(
        session=session_service_pb2.Session(workspace_root="/w")
    )
    run("ask", "--session", "7", "why?")
    assert daemon.request().prefix.HasField("workspace")


def test_model_and_key_come_from_the_file_unless_given(run: Run, daemon: FakeDaemon) -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text('model = "file-model"\nkey = "file-key"\n', encoding="utf-8")
    run("ensure")
    assert (daemon.requests[0].model, daemon.requests[0].key) == ("file-model", "file-key")
    run("ensure", "--model", "m", "--key", "")
    assert (daemon.requests[2].model, daemon.requests[2].key) == ("m", "")


def test_ensure_takes_the_workspace_or_a_text(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["EnsurePrefix"] = session_service_pb2.EnsurePrefixResponse(
        status=context_pb2.PrefixStatus(prefix_tokens=1234, reused_tokens=1200, prefilled_tokens=34)
    )
    daemon.answers["OpenSession"] = session_service_pb2.OpenSessionResponse(
        session=session_service_pb2.Session(name="sessions/1")
    )
    done = run("ensure")
    assert "sessions/1: 1,234 tokens hot: 1,200 reused, 0 restored, 34 computed" in done.stdout
    assert daemon.request().prefix.HasField("workspace")
    text = tmp_path / "text"
    text.write_bytes("zweï\n".encode())
    told = json.loads(run("ensure", "--file", str(text), "--json").stdout)
    assert told["status"]["prefix_tokens"] == 1234
    assert daemon.request().prefix.text == "zweï\n"
    run("ensure", "--file", "-", stdin="piped")
    assert daemon.request().prefix.text == "piped"
    text.write_bytes(b"\xff")
    assert "UTF-8" in run("ensure", "--file", str(text)).stderr


def test_explain_takes_the_session_used_last_over_the_folder(
    run: Run, daemon: FakeDaemon, tmp_path: Path
) -> None:
    session = session_service_pb2.Session
    daemon.answers["ListSessions"] = session_service_pb2.ListSessionsResponse(
        sessions=[
            session(name="sessions/1", workspace_root=str(tmp_path), last_used_ms=2),
            session(name="sessions/2", workspace_root=str(tmp_path), last_used_ms=3, key="k"),
            session(name="sessions/3", workspace_root="/", last_used_ms=9),
        ]
    )
    daemon.answers["ExplainContext"] = session_service_pb2.ExplainContextResponse(
        report=context_pb2.ContextReport(num_ctx=4096)
    )
    told = json.loads(run("explain", "--dir", str(tmp_path), "--json").stdout)
    assert told["report"]["num_ctx"] == 4096
    assert daemon.request().name == "sessions/2"
    run("explain", "9")
    assert daemon.request().name == "sessions/9"
    assert run("explain", "--dir", "/usr").exit_code == 1
    assert "OpenSession" not in str(daemon.requests)


def test_tokenize_shows_ids_and_bytes(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Tokenize"] = model_service_pb2.TokenizeResponse(
        token_ids=[5, 6], pieces=[b"a\t", b"\xff"]
    )
    assert run("tokenize", "a", "--special").stdout == "5\ta\\t\n6\t\\xff\n"
    assert daemon.request().parse_special
    assert json.loads(run("tokenize", "-", "--json", stdin="a").stdout)["token_ids"] == [5, 6]


def test_models_are_listed(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["ListModels"] = model_service_pb2.ListModelsResponse(
        models=[model_service_pb2.ModelFile(name="m", source="ollama", size_bytes=3 << 20, is_default=True)]
    )
    assert run("models").stdout == "m\tollama\t3.0 MiB\tdefault\t\n"
    assert json.loads(run("models", "--json").stdout)["models"][0]["is_default"] is True


def test_close_closes(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["CloseSession"] = session_service_pb2.CloseSessionResponse(
        session=session_service_pb2.Session(name="sessions/4")
    )
    assert run("close", "4").stdout == "sessions/4: closed\n"
    assert daemon.request().name == "sessions/4"


def test_status_says_what_runs(run: Run, daemon: FakeDaemon, short_path: Path) -> None:
    daemon.answers["ListModels"] = model_service_pb2.ListModelsResponse(
        models=[model_service_pb2.ModelFile(name="m", is_loaded=True), model_service_pb2.ModelFile(name="n")]
    )
    daemon.answers["GetRuntime"] = model_service_pb2.GetRuntimeResponse(
        kv_bytes=3 << 20,
        kv_free_bytes=5 << 30,
        models=[
            model_service_pb2.ModelRuntime(name="m", config=config_pb2.Config(num_ubatch=256, num_threads=2))
        ],
        arenas=[
            model_service_pb2.ArenaRuntime(workspace_root="/w", cells=2048, kv_bytes=3 << 20),
            model_service_pb2.ArenaRuntime(),
        ],
    )
    done = run("status", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told.pop("runtime")["arenas"][0]["cells"] == 2048
    assert told == {
        "health": "SERVING",
        "endpoint": str(daemon.socket),
        "pid": None,
        "version": VERSION,
        "model": "m",
        "sessions": 0,
        "log_path": str(log_path()),
    }
    said = run("status").stdout
    for line in (
        "health:      SERVING",
        "runs:        m: flash attention off, micro-batches of 256, threads 2 for one token and 0 for many",
        "             not measured on this machine: the backend's own choice",
        "cells:       3.0 MiB taken, 5.0 GiB free beside a reserve of 0 B",
        "             /w: 2,048 tokens, 3.0 MiB",
        "             no workspace: given back while idle",
    ):
        assert line in said
    daemon.stop()
    done = run("status", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["health"] == "NOT_RUNNING"


def test_stop_without_a_daemon_is_no_error(short_path: Path) -> None:
    done = CliRunner().invoke(cli, ["--socket", str(short_path / "none.sock"), "stop", "--json"])
    assert json.loads(done.stdout) == {"stopped": False, "pid": None}
    assert done.exit_code == 0


def test_logs_shows_the_last_lines(run: Run) -> None:
    assert run("logs").stdout == ""
    log_path().parent.mkdir(parents=True)
    log_path().write_text("".join(f"line {number}\n" for number in range(60)), encoding="utf-8")
    assert run("logs").stdout.splitlines() == [f"line {number}" for number in range(10, 60)]
    assert run("logs", "-n", "1").stdout == "line 59\n"
    assert run("logs", "-n", "0").stdout == ""
    assert json.loads(run("logs", "-n", "1", "--json").stdout) == {"line": "line 59"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_SESSIONCTL_COMPLETE" in done.stdout


def test_version_is_printed() -> None:
    done = CliRunner().invoke(cli, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("sessionctl ")
