"""Vectors of texts: the same for the same text, whatever came before, and never of a text that was cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessiond.adapters.base import Aborted, BackendError, Embedder, Model, ModelSettings, Unsupported

from .kit import floats
from .subjects import SUBJECTS

TEXTS = ["the value", "a", "the values of the text, and more of it: (x, y)", "", "the value"]


def _scripted(form: str) -> Callable[[Path], tuple[str, str]]:
    return lambda _: (form, f"{form}:embed,num_ctx=256")


def _tiny(kind: str) -> Callable[[Path], tuple[str, str]]:
    def write(folder: Path) -> tuple[str, str]:
        from tests.adapters import tiny_models

        path = folder / f"{kind}.gguf"
        getattr(tiny_models, kind)(path)
        return "llama-cpp", str(path)

    return write


ABLE = {
    "scripted-kv": _scripted("scripted-kv"),
    "scripted-prompt": _scripted("scripted-prompt"),
    "llama-cpp-decoder": _tiny("pooled"),
    "llama-cpp-bert": _tiny("bert"),
}


@pytest.fixture(
    params=[pytest.param(name, id=name, marks=pytest.mark.model if "llama" in name else ()) for name in ABLE]
)
def able(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Model]:
    """A model of each kind that makes vectors."""
    subject, name = ABLE[request.param](tmp_path)
    model = SUBJECTS[subject].adapter().load(name, ModelSettings(), lambda _: None)
    yield model
    model.close()


@pytest.fixture
def embedder(able: Model) -> Embedder:
    """Of that model."""
    return able.new_embedder()


def test_a_model_that_is_not_made_for_it_says_so(model: Model) -> None:
    assert not model.facts.capabilities.embed
    with pytest.raises(Unsupported) as caught:
        model.new_embedder()
    assert caught.value.feature == "embed"


def test_what_it_says_of_itself(able: Model, embedder: Embedder) -> None:
    assert able.facts.capabilities.embed
    assert embedder.pooling in {"mean", "cls", "last"}
    assert 0 < embedder.window <= able.facts.num_ctx_train


def test_a_text_has_one_vector_whatever_came_before(able: Model, embedder: Embedder) -> None:
    texts = [tokens for text in TEXTS if (tokens := embedder.tokens(text))]
    vectors = [embedder.embed(tokens) for tokens in texts]
    assert vectors[0] == vectors[-1]
    assert len(set(vectors)) == len(vectors) - 1
    assert all(len(vector) == len(vectors[0]) > 0 for vector in vectors)
    assert all(abs(value) < 1e6 for value in floats(vectors[1]))  # also false for NaN
    embedder.rest()
    assert [embedder.embed(tokens) for tokens in reversed(texts)] == vectors[::-1]
    assert able.new_embedder().embed(texts[1]) == vectors[1]


def test_names_of_special_tokens_are_text(able: Model, embedder: Embedder) -> None:
    assert not {*embedder.tokens("<|im_end|> [SEP] </s>")[1:-1]} & able.facts.vocab.end_tokens


def test_a_text_fills_the_window_and_no_more(embedder: Embedder) -> None:
    unit = embedder.tokens("a a a a")[1:-1][:1]
    assert embedder.embed(unit * embedder.window)
    for wrong in (unit * (embedder.window + 1), [], [-1], [1 << 30]):
        with pytest.raises(BackendError):
            embedder.embed(wrong)
    assert embedder.embed(unit)


def test_an_abort_ends_the_next_text_and_none_after_it(embedder: Embedder) -> None:
    tokens = embedder.tokens("the value")
    expected = embedder.embed(tokens)
    thread = threading.Thread(target=embedder.abort)
    thread.start()
    thread.join()
    with pytest.raises(Aborted):
        embedder.embed(tokens)
    embedder.clear_abort()
    assert embedder.embed(tokens) == expected


def test_a_closed_one_makes_none(able: Model, embedder: Embedder) -> None:
    tokens = embedder.tokens("the value")
    other = able.new_embedder()
    embedder.close()
    embedder.close()
    with pytest.raises(BackendError):
        embedder.embed(tokens)
    assert other.embed(tokens)
