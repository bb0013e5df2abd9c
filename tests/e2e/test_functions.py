"""Functions through a daemon: calls, maps, what a client gets to know, and what is left of it all."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.e2e.daemon import PROGRAMS, Daemon, eventually, own_environment, short_folder
from tests.e2e.wire import RPCS, Place, fields_of, refusal

from sessiond.client import (
    Client,
    Config,
    ContextOverflow,
    DecodeConfig,
    FunctionNotFound,
    IncompleteValue,
    InvalidInput,
    SessionUnavailable,
)
from sessiond.v1 import function_service_pb2 as pb
from sessiond.v1.config_pb2 import LogitBias
from sessiond.v1.context_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP

RAW = Config(prompt_format="raw")
OURS = {rpc.name.partition(".")[2]: rpc for rpc in RPCS if rpc.name.startswith("FunctionService")}


@pytest.fixture(autouse=True)
def _none_before(client: Client) -> Iterator[None]:
    yield
    for function in client.functions():
        client.delete_function(function.name)


def _value(client: Client, argument: str, name: str = "f") -> str:
    return "".join(chunk.text for chunk in client.call_function(name, argument))


def test_a_function_is_defined_listed_called_and_deleted(client: Client) -> None:
    config = DecodeConfig(max_tokens=5)
    defined = client.define_function("f", "a body", config=config, examples=[("x", "y")], session_config=RAW)
    assert defined == pb.Function(
        name="f",
        body="a body",
        config=config,
        examples=[pb.FunctionExample(argument="x", value="y")],
        session_config=RAW,
        body_tokens=len(client.tokenize("a body").token_ids) + 2,
    )
    other = client.define_function("e", "another", config=config)
    assert client.functions() == [other, defined]
    chunks = list(client.call_function("f", "xyz"))
    assert chunks[-1].summary.finish_reason in {FINISH_REASON_LENGTH, FINISH_REASON_STOP}
    assert chunks[-1].summary.generated_tokens == sum(len(chunk.token_ids) for chunk in chunks)
    assert chunks[-1].summary.timings.total_ms > 0
    client.delete_function("f")
    assert client.functions() == [other]


def test_what_does_not_exist(client: Client) -> None:
    for ask in (
        lambda: _value(client, "x"),
        lambda: list(client.map_function("f", ["x"])),
        lambda: client.delete_function("f"),
    ):
        with pytest.raises(FunctionNotFound) as caught:
            ask()
        assert (caught.value.reason, caught.value.name) == ("FUNCTION_NOT_FOUND", "f")


def test_an_answer_is_that_of_a_session_and_no_session_is_seen(client: Client) -> None:
    client.define_function("f", "a body", config=DecodeConfig(max_tokens=9))
    session = client.open_session(key="beside")
    session.ensure_prefix("a body")
    expected = "".join(
        event.chunk.text for event in session.complete(messages=[("user", "xyz")], max_tokens=9)
    )
    assert _value(client, "xyz") == expected
    assert [each.name for each in client.sessions()] == [session.name]
    session.close()


def test_choices_and_log_probabilities(client: Client) -> None:
    client.define_function(
        "f", "a body", config=DecodeConfig(choices=["yes", "no"], logprobs=2, temperature=1.0)
    )
    chunks = list(client.call_function("f", "x"))
    assert "".join(chunk.text for chunk in chunks) in {"yes", "no"}
    for one in client.map_function("f", ["x", "y", "z"]):
        assert one.value in {"yes", "no"}
        assert len(one.logprobs) == len(one.token_ids) == one.summary.generated_tokens


def test_a_map_is_answered_whole(client: Client) -> None:
    client.define_function("f", "a body", config=DecodeConfig(max_tokens=4))
    arguments = [f"x{index}" for index in range(50)]
    mapped = {one.index: one.value for one in client.map_function("f", arguments)}
    assert sorted(mapped) == list(range(50))
    assert mapped[7] == _value(client, "x7")
    assert list(client.map_function("f", [])) == []


def test_overflows_are_found_before_anything_runs(client: Client) -> None:
    small = Config(prompt_format="raw", num_ctx=64)
    with pytest.raises(ContextOverflow) as caught:
        client.define_function("f", "x" * 65, session_config=small)
    assert (caught.value.stage, caught.value.num_ctx) == ("prefix", 64)
    assert client.functions() == []
    client.define_function("f", "x" * 40, config=DecodeConfig(max_tokens=4), session_config=small)
    before = client.runtime().activity.computed_tokens
    with pytest.raises(ContextOverflow):
        _value(client, "y" * 30)
    with pytest.raises(ContextOverflow) as caught:
        list(client.map_function("f", ["y", "y" * 30, "z" * 40]))
    assert caught.value.arguments == (1, 2)
    assert client.runtime().activity.computed_tokens == before


@pytest.mark.parametrize("name", ["", "a b", "/a", "-a", ".a", "ä", "x" * 65, "a\n", "sessions/a"])
def test_names_that_are_none(channel: grpc.Channel, name: str) -> None:
    for rpc, request in (
        ("DefineFunction", pb.DefineFunctionRequest(name=name, body="x")),
        ("DeleteFunction", pb.DeleteFunctionRequest(name=name)),
        ("CallFunction", pb.CallFunctionRequest(name=name)),
        ("MapFunction", pb.MapFunctionRequest(name=name)),
    ):
        raised = refusal(channel, OURS[rpc], request.SerializeToString())
        assert isinstance(raised, InvalidInput)
        assert [violation.field for violation in raised.violations] == ["name"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.DefineFunctionRequest(name="f"), "body"),
        (pb.DefineFunctionRequest(name="f", body="x\0"), "body"),
        (pb.DefineFunctionRequest(name="f", body="x" * ((1 << 20) + 1)), "body"),
        (pb.DefineFunctionRequest(name="f", body="x", examples=[pb.FunctionExample()] * 257), "examples"),
        (pb.DefineFunctionRequest(name="f", body="x", model="\0"), "model"),
        (
            pb.DefineFunctionRequest(name="f", body="x", session_config=Config(num_ctx=-1)),
            "session_config.num_ctx",
        ),
        (
            pb.DefineFunctionRequest(name="f", body="x", config=DecodeConfig(temperature=-1)),
            "config.temperature",
        ),
        (
            pb.DefineFunctionRequest(
                name="f", body="x", config=DecodeConfig(logit_bias=[LogitBias(token_id=1 << 20)])
            ),
            "config.logit_bias[0].token_id",
        ),
    ],
)
def test_definitions_that_are_none(
    client: Client, channel: grpc.Channel, request_: pb.DefineFunctionRequest, field: str
) -> None:
    raised = refusal(channel, OURS["DefineFunction"], request_.SerializeToString())
    assert isinstance(raised, InvalidInput)
    assert [violation.field for violation in raised.violations] == [field]
    assert client.functions() == []


def test_arguments_that_are_none(client: Client, channel: grpc.Channel) -> None:
    client.define_function("f", "a body")
    request = pb.MapFunctionRequest(name="f", arguments=["x", "y\0"])
    raised = refusal(channel, OURS["MapFunction"], request.SerializeToString())
    assert isinstance(raised, InvalidInput)
    assert [violation.field for violation in raised.violations] == ["arguments[1]"]
    request = pb.MapFunctionRequest(name="f", arguments=[""] * ((1 << 14) + 1))
    raised = refusal(channel, OURS["MapFunction"], request.SerializeToString())
    assert isinstance(raised, InvalidInput)
    assert [violation.field for violation in raised.violations] == ["arguments"]


def test_every_number_of_a_definition_is_checked(channel: grpc.Channel, client: Client) -> None:
    define = OURS["DefineFunction"]
    kind = fields_of(define.request.DESCRIPTOR, 5)  # int32
    for place in (Place(define, way) for way in kind):
        raised = refusal(channel, define, place.request("f", -(1 << 31)).SerializeToString())
        assert isinstance(raised, InvalidInput), place
        assert any(place.leaf.name in violation.field for violation in raised.violations), place
    assert client.functions() == []


def test_a_client_that_vanishes_leaves_nothing(daemon: Daemon, client: Client) -> None:
    client.define_function("f", "xyz" * 100, config=DecodeConfig(max_tokens=1500), session_config=RAW)
    held = _held(client)
    with daemon.new_client() as gone:
        next(gone.call_function("f", "xyz"))
    with daemon.new_client() as gone:
        next(gone.map_function("f", [f"{index}xyz" for index in range(20)]))
    eventually(lambda: client.runtime().activity.queue_length == 0, "it is quiet")
    eventually(lambda: _held(client) == held, "what was computed is gone")
    assert {arena.running_turns for arena in client.runtime().arenas} == {0}  # also of what others left idle


def _held(client: Client) -> int:
    """Tokens that were computed and are somewhere."""
    told = client.runtime().activity
    return told.computed_tokens - told.dropped_tokens


def test_a_deadline_ends_a_map(client: Client) -> None:
    client.define_function("f", "xyz" * 100, config=DecodeConfig(max_tokens=1500), session_config=RAW)
    with pytest.raises(TimeoutError):
        list(client.map_function("f", ["xyz"] * 200, timeout=0.3))
    eventually(lambda: client.runtime().activity.queue_length == 0, "it is quiet")


def test_what_is_logged_and_counted(daemon: Daemon, client: Client) -> None:
    client.define_function("f", "a body", config=DecodeConfig(choices=["yes"]))
    before = client.runtime().activity
    list(client.call_function("f", "secret-word"))
    list(client.map_function("f", ["secret-word"] * 3))
    lines = [line for line in daemon.records("rpc") if line["method"].startswith("FunctionService")][-2:]
    assert [(line["method"], line["function"]) for line in lines] == [
        ("FunctionService/CallFunction", "f"),
        ("FunctionService/MapFunction", "f"),
    ]
    assert (lines[1]["arguments"], lines[1]["answered"]) == (3, 3)
    assert "secret-word" not in daemon.log_text()
    now = client.runtime().activity
    assert now.turns == before.turns + 2
    assert now.generated_tokens > before.generated_tokens
    assert {each.kind for each in now.first_tokens} >= {"called"}


def test_functions_outlive_daemon_and_engine(folder: Path) -> None:
    model = "scripted-kv:num_ctx=2048"
    with Daemon(folder, model) as first:
        first.client.define_function(
            "f", "a body " * 20, config=DecodeConfig(max_tokens=9), examples=[("x", "y")]
        )
        [told] = first.client.functions()
        expected = _value(first.client, "xyz")
        os.kill(first.engine_pid(), signal.SIGKILL)
        assert eventually(lambda: _unless_unavailable(first.client), "an engine stands again") == expected
        first.process.kill()
        first.process.wait()
        first.process.returncode = 0
    with Daemon(folder, model) as second:
        [again] = eventually(
            lambda: [each for each in second.client.functions() if each.body_tokens], "its body is counted"
        )
        assert again == told
        assert _value(second.client, "xyz") == expected
        second.client.delete_function("f")
    (folder / "state" / "functions" / "g.function").write_bytes(b"\xff" * 100)
    with Daemon(folder, model) as third:
        assert third.client.functions() == []
        assert third.records("functions.set_aside")


def _unless_unavailable(client: Client) -> str:
    try:
        return _value(client, "xyz")
    except SessionUnavailable:
        return ""


@pytest.mark.model
def test_with_a_real_model_an_answer_is_that_of_a_cold_session(real_daemon: Daemon) -> None:
    config = Config(deterministic=True, num_ctx=1024)
    client = real_daemon.client
    body = "You say in one word which animal makes a sound."
    examples = [("Woof!", "dog"), ("Meow!", "cat")]
    client.define_function(
        "animal", body, config=DecodeConfig(max_tokens=8), examples=examples, session_config=config
    )
    arguments = ["Moo!", "Oink!", "Quack!"]
    found = {arguments[one.index]: one.value for one in client.map_function("animal", arguments)}
    for index, argument in enumerate(arguments):
        assert _value(client, argument, "animal") == found[argument]
        with short_folder() as folder, Daemon(folder) as cold:
            session = cold.client.open_session(key=str(index), config=config)
            session.ensure_prefix(body)
            shown = [pair for one, value in examples for pair in (("user", one), ("assistant", value))]
            turn = session.complete(messages=[*shown, ("user", argument)], max_tokens=8)
            assert found[argument] == "".join(event.chunk.text for event in turn)
    client.delete_function("animal")


def test_a_function_in_python_and_at_a_terminal(daemon: Daemon, client: Client, folder: Path) -> None:
    classify = client.function("classify", "Say what it is.", choices=["bug", "feature"], session_config=RAW)
    arguments = [f"report {index}" for index in range(20)]
    values = list(classify.map(arguments))
    assert set(values) <= {"bug", "feature"}
    assert values[3] == classify(arguments[3])
    numbers = client.function(
        "numbers", "Say a number.", json_schema={"type": "integer", "maximum": 9, "minimum": 0}
    )
    assert numbers("x") in range(10)
    cut = client.function("cut", "Say it.", choices=["no", "not sure"], max_tokens=2, session_config=RAW)
    with pytest.raises(IncompleteValue):  # whichever it was to be
        cut("x")
    with pytest.raises(IncompleteValue):
        list(cut.map(["x"]))
    (folder / "lines").write_text("\n".join(arguments))
    told = subprocess.run(
        [PROGRAMS / "sessionctl", "--socket", daemon.socket, "fn", "map", "classify", folder / "lines"],
        capture_output=True,
        text=True,
        check=True,
        env=own_environment(folder),
    )
    assert told.stdout.splitlines() == values
    classify.delete()
    with pytest.raises(FunctionNotFound):
        classify("x")
