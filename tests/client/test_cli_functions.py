"""`sessionctl fn`: what it asks, and what it prints in a pipe and at a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.client.fake_daemon import FakeDaemon
from tests.client.terminal import on_a_terminal, program

from sessiond.client import Config, DecodeConfig
from sessiond.client.cli.main import cli
from sessiond.v1 import context_pb2
from sessiond.v1 import function_service_pb2 as pb

Run = Callable[..., Result]


@pytest.fixture
def run(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `sessionctl fn` against the fake daemon."""
    monkeypatch.chdir(tmp_path)
    told = pb.Function(name="classify", body="Say what\nthis is.", body_tokens=1234, model="m")
    told.examples.add(argument="a", value="b")
    daemon.answers["DefineFunction"] = pb.DefineFunctionResponse(function=told)
    chosen, long = pb.Function(name="d", body="x " * 100), pb.Function(name="e")
    chosen.config.choices.extend(["a", "b"])
    long.config.json_schema = "{}"
    daemon.answers["ListFunctions"] = pb.ListFunctionsResponse(functions=[told, chosen, long])
    pieces = [context_pb2.StreamChunk(text=text) for text in ("bu", "g")]
    last = context_pb2.StreamChunk(summary=context_pb2.DecodeSummary(generated_tokens=2))
    daemon.answers["CallFunction"] = [pb.CallFunctionResponse(chunk=chunk) for chunk in (*pieces, last)]
    daemon.answers["MapFunction"] = [
        pb.MapFunctionResponse(index=index, value=value) for index, value in ((1, "fea\nture"), (0, "bug"))
    ]

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        command = ["--socket", str(daemon.socket), "fn", *arguments]
        return CliRunner().invoke(cli, command, input=stdin, prog_name="sessionctl")

    return invoke


def test_define(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "schema").write_text("{}")
    done = run(
        *("define", "classify", "--body", "Say what this is.", "--example", "a=b", "--example", "=x=y"),
        *(
            "--json-schema",
            "schema",
            "--max-tokens",
            "5",
            "--temperature",
            "0.5",
            "--seed",
            "3",
            "--stop",
            ".",
        ),
        *("--model", "m", "--num-ctx", "512"),
    )
    assert (done.exit_code, done.stdout, done.stderr) == (0, "classify: 1,234 tokens\n", "")
    assert daemon.request() == pb.DefineFunctionRequest(
        name="classify",
        body="Say what this is.",
        config=DecodeConfig(json_schema="{}", max_tokens=5, temperature=0.5, seed=3, stop=["."]),
        examples=[
            pb.FunctionExample(argument="a", value="b"),
            pb.FunctionExample(argument="", value="x=y"),
        ],
        model="m",
        session_config=Config(num_ctx=512),
    )


def test_a_body_from_a_file_or_from_standard_input(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "body").write_text("from a file\n")
    assert run("define", "f", "--body-file", "body", "--choice", "a", "--choice", "b").exit_code == 0
    assert (daemon.request().body, list(daemon.request().config.choices)) == ("from a file\n", ["a", "b"])
    for arguments in (["--body", "-"], ["--body-file", "-"]):
        assert run("define", "f", *arguments, stdin="from a pipe").exit_code == 0
        assert daemon.request().body == "from a pipe"
    assert not daemon.request().HasField("session_config")


def test_list(run: Run) -> None:
    done = run("list")
    assert done.stdout.splitlines()[:2] == [
        "classify\t1,234\t1\ttext\tm\tSay what this is.",
        f"d\t0\t0\tone of 2\t\t{('x ' * 29 + 'x')}…",
    ]
    assert done.stdout.splitlines()[2] == "e\t0\t0\tjson\t\t"


def test_call(run: Run, daemon: FakeDaemon) -> None:
    assert run("call", "classify", "It crashes.").stdout == "bug\n"
    assert daemon.request() == pb.CallFunctionRequest(name="classify", argument="It crashes.")
    for arguments in ([], ["-"]):
        assert run("call", "classify", *arguments, stdin="from a pipe").stdout == "bug\n"
        assert daemon.request().argument == "from a pipe"


def test_map(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\n\ntw\u2028o\n")
    assert run("map", "classify", "lines").stdout == "bug\nfea ture\n"
    assert daemon.request() == pb.MapFunctionRequest(name="classify", arguments=["one", "", "tw\u2028o"])
    assert run("map", "--as-ended", "classify", "lines").stdout == "2\tfea ture\n1\tbug\n"
    assert run("map", "classify", stdin="x\r\ny").exit_code == 0
    assert list(daemon.request().arguments) == ["x", "y"]
    asked = len(daemon.requests)
    assert run("map", "classify", stdin="").stdout == ""
    assert not any(isinstance(each, pb.MapFunctionRequest) for each in daemon.requests[asked:])


def test_delete(run: Run, daemon: FakeDaemon) -> None:
    assert run("delete", "classify").stdout == "classify: deleted\n"
    assert daemon.request() == pb.DeleteFunctionRequest(name="classify")


def test_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    assert json.loads(run("define", "f", "--body", "x", "--json").stdout)["function"]["body_tokens"] == 1234
    assert len(json.loads(run("list", "--json").stdout)["functions"]) == 3
    called = [json.loads(line) for line in run("call", "f", "x", "--json").stdout.splitlines()]
    assert [each["chunk"]["text"] for each in called] == ["bu", "g", ""]
    mapped = [json.loads(line) for line in run("map", "f", "lines", "--json").stdout.splitlines()]
    assert [(each["index"], each["value"]) for each in mapped] == [(0, "bug"), (1, "fea\nture")]
    assert json.loads(run("delete", "f", "--json").stdout) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["define", "f"],
        ["define", "--body", "x"],
        ["define", "f", "--body", "x", "--body-file", "y"],
        ["define", "f", "--body-file", "nowhere"],
        ["define", "f", "--body", "x", "--example", "no value"],
        ["define", "f", "--body", "x", "--choice", "a", "--grammar", "b"],
        ["define", "f", "--body", "x", "--seed", "-1"],
        ["call"],
        ["map", "f", "nowhere"],
        ["delete"],
    ],
)
def test_wrong_usage(run: Run, daemon: FakeDaemon, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
    assert not daemon.requests


def test_progress_at_a_terminal(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    said = on_a_terminal(program(daemon, "fn", "map", "classify", str(tmp_path / "lines")))
    assert "answered" in said and "2/2" in said
    assert "bug" in said and "fea ture" in said


def test_answers_go_into_a_file_while_a_bar_stands_on_the_terminal(
    run: Run, daemon: FakeDaemon, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text("x\ny\n", encoding="utf-8")
    with (tmp_path / "out").open("wb") as out:
        said = on_a_terminal(program(daemon, "fn", "map", "classify", str(tmp_path / "lines")), out)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "bug\nfea ture\n"
    assert "answered" in said
