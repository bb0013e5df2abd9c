"""Vectors beside those of llama-cpp-python's own class, for each way of pooling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gguf
import pytest
from tests.adapters import tiny_models
from tests.adapters.contract.kit import floats

from sessiond.adapters.base import ModelSettings, Unsupported
from sessiond.adapters.llama_cpp import ADAPTER

pytestmark = pytest.mark.model

TEXTS = ["the value of a text", "s", "the values (x + y), and more of them"]
WRITERS: dict[str, Callable[[Path, gguf.PoolingType], None]] = {
    "bert": tiny_models.bert,
    "decoder": tiny_models.pooled,
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("pooling", [gguf.PoolingType.MEAN, gguf.PoolingType.CLS, gguf.PoolingType.LAST])
def test_vectors_are_those_of_the_library(tmp_path: Path, kind: str, pooling: gguf.PoolingType) -> None:
    from llama_cpp import Llama

    path = tmp_path / "model.gguf"
    WRITERS[kind](path, pooling)
    model = ADAPTER.load(str(path), ModelSettings(), lambda _: None)
    embedder = model.new_embedder()
    assert embedder.pooling == pooling.name.lower()
    reference = Llama(
        str(path), embedding=True, n_ctx=256, n_batch=256, n_ubatch=256, flash_attn=True, verbose=False
    )
    for text in TEXTS:
        tokens = embedder.tokens(text)
        assert tokens == reference.tokenize(text.encode(), add_bos=True, special=False)
        expected = cast("list[float]", cast("Any", reference).embed(text))
        assert list(floats(embedder.embed(tokens))) == pytest.approx(expected, abs=1e-4)
    reference.close()
    model.close()


@pytest.mark.parametrize("pooling", [gguf.PoolingType.NONE, gguf.PoolingType.RANK])
def test_without_a_vector_of_a_text_there_is_none(tmp_path: Path, pooling: gguf.PoolingType) -> None:
    path = tmp_path / "model.gguf"
    tiny_models.pooled(path, pooling)
    model = ADAPTER.load(str(path), ModelSettings(), lambda _: None)
    assert not model.facts.capabilities.embed
    with pytest.raises(Unsupported):
        model.new_embedder()
    model.close()


def test_a_model_that_reads_whole_texts_keeps_no_sessions(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    tiny_models.bert(path)
    model = ADAPTER.load(str(path), ModelSettings(), lambda _: None)
    able = model.facts.capabilities
    assert able.embed
    assert not any((able.session, able.fork, able.truncate, able.snapshot, able.grammar, able.deterministic))
    model.close()
