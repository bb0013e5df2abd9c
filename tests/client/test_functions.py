"""Prompts as functions in Python: values, maps in order and as they end, decorators, for both clients."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from tests.client.fake_daemon import FakeDaemon

from sessiond.client import (
    AsyncClient,
    AsyncFunction,
    Client,
    Config,
    DecodeConfig,
    Function,
    IncompleteValue,
    InvalidInput,
)
from sessiond.client.calls import functions
from sessiond.v1 import context_pb2
from sessiond.v1 import function_service_pb2 as pb

CHOICES = ["bug", "feature"]


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(daemon.socket) as connected:
        yield connected


@pytest_asyncio.fixture
async def other(daemon: FakeDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.socket) as connected:
        yield connected


def _is_defined(daemon: FakeDaemon, **config: Any) -> None:
    told = pb.Function(name="classify", config=DecodeConfig(**config), body_tokens=7)
    daemon.answers["DefineFunction"] = pb.DefineFunctionResponse(function=told)


def _says(daemon: FakeDaemon, *texts: str) -> None:
    summary = context_pb2.DecodeSummary(generated_tokens=len(texts))
    chunks = [context_pb2.StreamChunk(text=text) for text in texts]
    daemon.answers["CallFunction"] = [
        pb.CallFunctionResponse(chunk=chunk) for chunk in [*chunks, context_pb2.StreamChunk(summary=summary)]
    ]


def _maps_to(daemon: FakeDaemon, *answers: tuple[int, str]) -> None:
    daemon.answers["MapFunction"] = [
        pb.MapFunctionResponse(index=index, value=value) for index, value in answers
    ]


def test_both_faces_have_the_same_methods_and_arguments() -> None:
    def face(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__call__"
        }

    assert face(Function) == face(AsyncFunction)
    assert list(inspect.signature(Client.function).parameters) == list(
        inspect.signature(AsyncClient.function).parameters
    )


def test_all_of_a_definition_is_sent(client: Client, daemon: FakeDaemon) -> None:
    _is_defined(daemon)
    made = client.function(
        "classify",
        "Say what this is.",
        choices=CHOICES,
        examples=[("It crashes.", "bug")],
        model="m",
        session_config=Config(num_ctx=512),
        config=DecodeConfig(max_tokens=3, seed=2),
        temperature=0.5,
    )
    assert daemon.request() == pb.DefineFunctionRequest(
        name="classify",
        body="Say what this is.",
        config=DecodeConfig(max_tokens=3, seed=2, temperature=0.5, choices=CHOICES),
        examples=[pb.FunctionExample(argument="It crashes.", value="bug")],
        model="m",
        session_config=Config(num_ctx=512),
    )
    assert (made.name, made.defined.body_tokens, repr(made)) == ("classify", 7, "Function('classify')")


@pytest.mark.parametrize("schema", ['{"type": "object"}', {"type": "object"}])
def test_a_schema_is_given_as_text_or_as_what_it_describes(
    client: Client, daemon: FakeDaemon, schema: Any
) -> None:
    client.function("classify", "x", json_schema=schema)
    assert daemon.request().config.json_schema == '{"type": "object"}'


VALUES: list[tuple[dict[str, Any], list[str], Any]] = [
    ({}, ["a ", "b"], "a b"),
    ({"choices": CHOICES}, ["b", "ug"], "bug"),
    ({"json_schema": "{}"}, ['{"a": ', "[1, 2]}"], {"a": [1, 2]}),
    ({"json_schema": "{}"}, ["3"], 3),
]


@pytest.mark.parametrize(("config", "texts", "value"), VALUES)
def test_a_value(client: Client, daemon: FakeDaemon, config: Any, texts: list[str], value: Any) -> None:
    _is_defined(daemon, **config)
    _says(daemon, *texts)
    classify = client.function("classify", "x")
    assert classify("an argument") == value
    assert daemon.request() == pb.CallFunctionRequest(name="classify", argument="an argument")
    assert list(classify.stream("y")) == texts


@pytest.mark.parametrize(("config", "texts", "value"), VALUES)
async def test_an_awaited_value(
    other: AsyncClient, daemon: FakeDaemon, config: Any, texts: list[str], value: Any
) -> None:
    _is_defined(daemon, **config)
    _says(daemon, *texts)
    classify = await other.function("classify", "x")
    assert await classify("an argument") == value
    assert [piece async for piece in classify.stream("y")] == texts
    await classify.delete()
    assert daemon.request() == pb.DeleteFunctionRequest(name="classify")


@pytest.mark.parametrize(
    ("config", "text"), [({"choices": CHOICES}, "featu"), ({"json_schema": "{}"}, '{"a": ')]
)
def test_an_answer_that_was_cut_off_is_no_value(
    client: Client, daemon: FakeDaemon, config: Any, text: str
) -> None:
    _is_defined(daemon, **config)
    _says(daemon, text)
    _maps_to(daemon, (0, text))
    classify = client.function("classify", "x")
    with pytest.raises(IncompleteValue) as caught:
        classify("y")
    assert (caught.value.name, caught.value.text) == ("classify", text)
    with pytest.raises(IncompleteValue):
        list(classify.map(["y"]))


LENGTH, STOP_STRING = context_pb2.FINISH_REASON_LENGTH, context_pb2.FINISH_REASON_STOP_STRING
INTEGER = {"json_schema": '{"type": "integer", "minimum": 1000}'}


def _ends(daemon: FakeDaemon, text: str, reason: context_pb2.FinishReason.ValueType, tokens: int) -> None:
    """Calls and maps answer with this text, and end so after so many tokens."""
    summary = context_pb2.DecodeSummary(finish_reason=reason, generated_tokens=tokens)
    daemon.answers["CallFunction"] = [
        pb.CallFunctionResponse(chunk=context_pb2.StreamChunk(text=text)),
        pb.CallFunctionResponse(chunk=context_pb2.StreamChunk(summary=summary)),
    ]
    daemon.answers["MapFunction"] = [pb.MapFunctionResponse(value=text, summary=summary)]


@pytest.mark.parametrize(
    ("config", "text", "reason"),
    [
        (INTEGER | {"max_tokens": 1}, "1", LENGTH),
        (INTEGER | {"stop": ["0"]}, "1", STOP_STRING),
        ({"choices": ["no", "not sure at all"], "max_tokens": 1}, "no", LENGTH),
        ({"choices": ["no", "not sure at all"], "stop": ["t"]}, "no", STOP_STRING),
        ({"grammar": "root ::= [a-z]+", "max_tokens": 1}, "no", LENGTH),
        ({"max_tokens": 2}, "The window was full", LENGTH),
        ({}, "The window was full", LENGTH),
    ],
)
async def test_an_answer_that_was_cut_off_is_no_value_also_where_it_reads_as_one(
    client: Client, other: AsyncClient, daemon: FakeDaemon, config: Any, text: str, reason: Any
) -> None:
    _is_defined(daemon, **config)
    _ends(daemon, text, reason, 1)
    classify, awaited = client.function("classify", "x"), await other.function("classify", "x")
    for calling in (lambda: classify("y"), lambda: list(classify.map(["y"]))):
        with pytest.raises(IncompleteValue, match=text):
            calling()
    with pytest.raises(IncompleteValue, match=text):
        await awaited("y")
    with pytest.raises(IncompleteValue, match=text):
        _ = [value async for value in awaited.map(["y"])]


@pytest.mark.parametrize(("config", "reason"), [({"max_tokens": 2}, LENGTH), ({"stop": ["."]}, STOP_STRING)])
async def test_a_text_that_ends_where_it_was_told_to_is_a_value(
    client: Client, other: AsyncClient, daemon: FakeDaemon, config: Any, reason: Any
) -> None:
    _is_defined(daemon, **config)
    _ends(daemon, "In short", reason, 2)
    classify, awaited = client.function("classify", "x"), await other.function("classify", "x")
    assert [classify("y"), *classify.map(["y"]), await awaited("y")] == ["In short"] * 3


def test_a_map_in_order_and_as_it_ends(client: Client, daemon: FakeDaemon) -> None:
    _is_defined(daemon, choices=CHOICES)
    _maps_to(daemon, (2, "bug"), (0, "feature"), (1, "bug"))
    classify = client.function("classify", "x")
    told: list[tuple[int, int]] = []
    assert list(classify.map(["a", "b", "c"], progress=lambda *at: told.append(at))) == [
        "feature",
        "bug",
        "bug",
    ]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert daemon.request() == pb.MapFunctionRequest(name="classify", arguments=["a", "b", "c"])
    assert list(classify.as_ended(iter("abc"))) == [(2, "bug"), (0, "feature"), (1, "bug")]
    asked = len(daemon.requests)
    assert list(classify.map([])) == []
    assert len(daemon.requests) == asked


async def test_an_awaited_map(other: AsyncClient, daemon: FakeDaemon) -> None:
    _is_defined(daemon)
    _maps_to(daemon, (2, "z"), (0, "x"), (1, "y"))
    classify = await other.function("classify", "x")
    told: list[tuple[int, int]] = []
    found = [value async for value in classify.map(["a", "b", "c"], progress=lambda *at: told.append(at))]
    assert (found, told) == (["x", "y", "z"], [(1, 3), (2, 3), (3, 3)])
    assert [one async for one in classify.as_ended("abc")] == [(2, "z"), (0, "x"), (1, "y")]


def test_more_arguments_than_one_map_takes(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "MOST_ARGUMENTS", 2)
    _is_defined(daemon)
    _maps_to(daemon, (1, "b"), (0, "a"))
    classify = client.function("classify", "x")
    assert list(classify.as_ended("wxyz")) == [(1, "b"), (0, "a"), (3, "b"), (2, "a")]
    sent = [list(each.arguments) for each in daemon.requests if isinstance(each, pb.MapFunctionRequest)]
    assert sent == [["w", "x"], ["y", "z"]]


@pytest.mark.parametrize("how", ["map", "as_ended", "stream"])
def test_what_is_left_is_cancelled(client: Client, daemon: FakeDaemon, how: str) -> None:
    _is_defined(daemon)
    _maps_to(daemon, (0, "a"))
    _says(daemon, "a")
    daemon.endless = True
    classify = client.function("classify", "x")
    with contextlib.closing(getattr(classify, how)(["y"] if how != "stream" else "y")) as answers:
        next(answers)
    assert daemon.cancelled.wait(5)


async def test_what_is_left_is_cancelled_too(other: AsyncClient, daemon: FakeDaemon) -> None:
    _is_defined(daemon)
    _maps_to(daemon, (0, "a"))
    daemon.endless = True
    classify = await other.function("classify", "x")
    async with contextlib.aclosing(classify.map(["y"])) as answers:
        await anext(answers)
    assert daemon.cancelled.wait(5)


def test_a_decorated_function_is_its_docstring(client: Client, daemon: FakeDaemon) -> None:
    _is_defined(daemon, choices=CHOICES)
    _says(daemon, "bug")

    @client.function(choices=CHOICES, max_tokens=4)
    def classify(report: str) -> str:
        """Say what this is.

        In one word.
        """
        raise AssertionError(report)

    request = daemon.request()
    assert (request.name, request.body) == ("classify", "Say what this is.\n\nIn one word.")
    assert request.config == DecodeConfig(choices=CHOICES, max_tokens=4)
    assert classify("It crashes.") == "bug"
    client.function("other")(_decorated)
    assert (daemon.request().name, daemon.request().body) == ("other", "Say it again.")


def _decorated(text: str) -> str:
    """Say it again."""
    return text


def test_without_a_docstring_there_is_no_body(client: Client, daemon: FakeDaemon) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.function("f")(lambda _argument: "")
    assert caught.value.violations[0].field == "body"
    assert not daemon.requests


def test_a_batch_is_of_no_more_bytes_than_one_map_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "MOST_BYTES", 4)
    assert functions.batches(["ab", "é", "x", "", "longer", "y"]) == [
        (0, ["ab", "é"]),
        (2, ["x", ""]),
        (4, ["longer"]),
        (5, ["y"]),
    ]
    assert functions.batches([]) == []
