"""Sliding windows of llama.cpp: a cut is made where all that the next token sees is there, and nowhere else."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest

from sessiond.adapters.base import ContextSettings, ModelSettings, Run
from sessiond.adapters.llama_cpp import ADAPTER
from sessiond.adapters.llama_cpp.context import LlamaContext
from sessiond.adapters.llama_cpp.model import LlamaModel

from .tiny_models import WINDOW, sliding_window

pytestmark = pytest.mark.model

_TEXT = [(index * 37 + 11) % 256 for index in range(200)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    path = tmp_path_factory.mktemp("window") / "model.gguf"
    sliding_window(path)
    model = ADAPTER.load(str(path), ModelSettings(), lambda _: None)
    assert isinstance(model, LlamaModel)
    yield model
    model.close()


def _open(model: LlamaModel) -> LlamaContext:
    return model.new_context(ContextSettings(num_ctx=512, num_threads=1, num_threads_batch=1))


def _decode(context: LlamaContext, sequence: int, tokens: list[int]) -> bytes:
    context.decode([Run(sequence, context.end(sequence), tokens, want_logits=True)])
    return context.logits(0)


def _loaded(model: LlamaModel) -> LlamaContext:
    """A context that has of the window only what the last token of the text sees, and the one before that."""
    source, context = _open(model), _open(model)
    _decode(source, 0, _TEXT)
    context.load(0, source.save(0))
    source.close()
    return context


def test_as_far_back_as_the_window_is_whole_no_checkpoint_is_needed(model: LlamaModel) -> None:
    context, fresh = _loaded(model), _open(model)
    _decode(fresh, 0, _TEXT[:-1])
    assert context.truncate(0, len(_TEXT) - 1)
    assert _decode(context, 0, [7, 8, 9]) == _decode(fresh, 0, [7, 8, 9])
    context.close()
    fresh.close()


@pytest.mark.parametrize("back", [2, 3, WINDOW, 150])
def test_a_token_further_it_is_refused(model: LlamaModel, back: int) -> None:
    context = _loaded(model)
    assert not context.truncate(0, len(_TEXT) - back)
    assert context.end(0) == len(_TEXT)
    context.close()


def test_a_short_text_is_cut_anywhere(model: LlamaModel) -> None:
    context = _open(model)
    _decode(context, 0, _TEXT[: WINDOW - 2])
    assert context.truncate(0, 5)
    fresh = _open(model)
    _decode(fresh, 0, _TEXT[:5])
    assert _decode(context, 0, [7, 8, 9]) == _decode(fresh, 0, [7, 8, 9])
    context.close()
    fresh.close()


def test_what_others_took_of_the_window_is_missed(model: LlamaModel) -> None:
    # The cells of sequence 1 are free after the drop. llama.cpp goes on from there, and writes sequence 2 over the
    # first hundred positions of 0 as well, which have left its window.
    context = _open(model)
    _decode(context, 1, _TEXT[:100])
    _decode(context, 0, _TEXT)
    context.drop(1)
    _decode(context, 2, _TEXT)
    assert not context.truncate(0, 100 + WINDOW - 2)
    assert context.end(0) == len(_TEXT)
    assert context.truncate(0, 100 + WINDOW - 1)
    fresh = _open(model)
    _decode(fresh, 0, _TEXT[: 100 + WINDOW - 1])
    assert _near(_decode(context, 0, [7, 8, 9]), _decode(fresh, 0, [7, 8, 9]))
    context.close()
    fresh.close()


def _near(one: bytes, other: bytes) -> bool:
    pairs = zip(array("f", one), array("f", other), strict=True)
    return all(abs(left - right) < 0.01 for left, right in pairs)
