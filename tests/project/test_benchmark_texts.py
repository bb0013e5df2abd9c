"""What all sides are asked has exactly the tokens that its row states, and begins as nothing before it did."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.tiny_models import plain

from benchmark.texts import Texts, sources
from benchmark.versions import Versions
from demo_daemon import own_daemon
from sessiond.client import Client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of a daemon whose model has a token for each byte: only so many questions begin otherwise than all others."""
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        model = Path(name, "tiny.gguf")
        plain(model, layers=1)
        with own_daemon(Path(name), str(model)) as client:
            yield client


def tokens_of(client: Client, text: str) -> tuple[int, ...]:
    return tuple(client.tokenize(text).token_ids)


def made(client: Client) -> Versions:
    return Versions(Texts(client), lambda text: tokens_of(client, text))


@pytest.mark.parametrize("tokens", [1, 16, 64, 1000])
def test_a_text_has_the_tokens_that_are_asked_for(client: Client, tokens: int) -> None:
    for piece in Texts(client).several(5, tokens):
        assert len(piece.ids) == tokens
        assert tokens_of(client, piece.text) == piece.ids


def test_no_two_questions_about_a_version_begin_alike(client: Client) -> None:
    versions = made(client)
    version = versions.fresh(200)
    asked = [versions.question(16, version) for _ in range(40)]
    assert len({piece.ids[0] for piece in asked}) == len(asked)
    assert all(len(piece.ids) == 16 for piece in asked)


def test_a_text_comes_also_where_none_begins_otherwise(client: Client) -> None:
    every = set(tokens_of(client, sources()))
    assert len(Texts(client).take(16, every).ids) == 16


def test_texts_begin_otherwise_also_where_the_sources_are_read_again(client: Client) -> None:
    texts = Texts(client)
    texts._at = len(sources()) - 8
    [first] = tokens_of(client, sources()[1009])
    assert texts.take(16, {first}).ids[0] != first


@pytest.mark.parametrize("depth", [130, 400, 1003])
def test_a_version_has_the_depth_that_is_asked_for(client: Client, depth: int) -> None:
    assert len(made(client).fresh(depth).ids) == depth
