"""Vectors of texts, from the client and the command line to the model and back."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
from tests.adapters import tiny_models
from tests.e2e.daemon import PROGRAMS, Daemon

from sessiond.client import AsyncClient, Client, InvalidInput, UnsupportedFeature
from sessiond.v1 import model_service_pb2 as pb
from sessiond.v1.model_service_pb2_grpc import ModelServiceStub

TEXTS = ["the value", "a", "the value", "é😒"]


@pytest.fixture(scope="module")
def scripted_model() -> str:
    return "scripted-kv:num_ctx=512,embed"


def test_a_text_has_one_vector_whatever_comes_with_it(client: Client) -> None:
    assert client.model().capabilities.embed
    vectors = client.embed(TEXTS)
    assert vectors[0] == vectors[2] != vectors[1]
    assert [client.embed([text])[0] for text in TEXTS] == vectors
    assert client.embed([]) == []


async def test_the_async_client_has_the_same(daemon: Daemon, client: Client) -> None:
    async with AsyncClient(daemon.socket) as other:
        assert await other.embed(TEXTS, normalize=True) == client.embed(TEXTS, normalize=True)


def test_vectors_of_length_one(client: Client) -> None:
    for raw, scaled in zip(client.embed(TEXTS), client.embed(TEXTS, normalize=True), strict=True):
        length = math.hypot(*raw.values)
        assert list(scaled.values) == pytest.approx([value / length for value in raw.values], rel=1e-6)
        assert math.hypot(*scaled.values) == pytest.approx(1.0, rel=1e-6)


def test_what_is_told_beside_the_vectors(daemon: Daemon) -> None:
    told = ModelServiceStub(daemon.channel()).Embed(pb.EmbedRequest(texts=["ab", "<|im_end|>"]))
    assert (told.pooling, told.max_tokens) == ("last", 512)
    assert told.embeddings[0].tokens == 2 and told.embeddings[1].tokens > 1


@pytest.mark.parametrize(
    ("texts", "fields"),
    [
        (["a", "x" * 600, "b", ""], ["texts[1]", "texts[3]"]),
        (["a\0"], ["texts[0]"]),
        (["a", "x" * ((256 << 10) + 1)], ["texts[1]"]),
        (["x" * (200 << 10)] * 30, ["texts"]),
        (["a"] * 1025, ["texts"]),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_cut(
    client: Client, texts: list[str], fields: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.embed(texts)
    assert [violation.field for violation in caught.value.violations] == fields


def test_sessions_and_vectors_share_a_model(client: Client) -> None:
    session = client.open_session(key="beside")
    before = list(session.ask("what?", max_tokens=8))
    client.embed(TEXTS)
    assert list(session.ask("what?", max_tokens=8)) == before


def test_sessionctl_prints_a_line_for_each(daemon: Daemon, client: Client) -> None:
    command = [str(PROGRAMS / "sessionctl"), "--socket", str(daemon.socket), "embed", *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    lines = [[float(value) for value in line.split("\t")] for line in done.stdout.splitlines()]
    vectors = [list(vector.values) for vector in client.embed(TEXTS)]
    assert lines == [pytest.approx(values, rel=1e-6) for values in vectors]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=100, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["tokens"] for each in told] == [vector.tokens for vector in client.embed(TEXTS)]


@pytest.mark.model
def test_a_model_that_reads_whole_texts(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "bert.gguf"
    tiny_models.bert(path)
    able = client.model(str(path)).capabilities
    assert able.embed and not able.session
    vectors = client.embed(["the value", "a", "the value"], model=str(path), normalize=True)
    assert vectors[0] == vectors[2] != vectors[1]
    with pytest.raises(UnsupportedFeature) as caught:
        client.open_session(model=str(path))
    assert caught.value.feature == "session"
