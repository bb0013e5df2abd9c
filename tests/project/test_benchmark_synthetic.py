"""A synthetic model has the shape that was asked for, weights that can be computed with, and a vocabulary that works."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.adapters.tiny_models import plain

from benchmark import synthetic
from benchmark.synthetic import BLOCK, SHAPES, TYPES, NoVocabulary, Shape, quantized

SMALL = Shape(2, 64, 128, 2, 1, 512, tied=False, context=4096)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """A file with a tokenizer in it."""
    path = tmp_path / "vocab.gguf"
    plain(path)
    return path


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("kind", TYPES)
def test_the_file_has_the_shape_and_the_vocabulary(tmp_path: Path, vocabulary: Path, kind: str) -> None:
    path = tmp_path / "made.gguf"
    synthetic.write(path, SMALL, kind, vocabulary)
    told, known = fields(path), fields(vocabulary)
    assert told["general.architecture"] == "qwen2"
    assert told["qwen2.block_count"] == 2
    assert told["qwen2.attention.head_count_kv"] == 1
    tokens = told["tokenizer.ggml.tokens"]
    assert len(tokens) == 512 == len(told["tokenizer.ggml.token_type"])
    assert tokens[: len(known["tokenizer.ggml.tokens"])] == known["tokenizer.ggml.tokens"]
    assert told["tokenizer.ggml.merges"] == known["tokenizer.ggml.merges"]
    assert told["tokenizer.ggml.eos_token_id"] == known["tokenizer.ggml.eos_token_id"]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert tensors["token_embd.weight"].shape.tolist() == [64, 512]
    assert tensors["blk.1.attn_k.weight"].shape.tolist() == [64, 32]
    assert tensors["blk.1.ffn_down.weight"].shape.tolist() == [128, 64]
    assert "output.weight" in tensors
    assert sorted(file.name for file in tmp_path.iterdir()) == ["made.gguf", "vocab.gguf"]


@pytest.mark.parametrize("kind", TYPES)
def test_weights_are_finite_and_as_large_as_trained_ones(tmp_path: Path, vocabulary: Path, kind: str) -> None:
    path = tmp_path / "made.gguf"
    synthetic.write(path, SMALL, kind, vocabulary)
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all(), tensor.name
        if tensor.name.endswith("ffn_down.weight"):
            assert 0.5 < float(values.std()) * np.sqrt(128) < 1.5


def test_a_tied_model_has_no_output_of_its_own(tmp_path: Path, vocabulary: Path) -> None:
    path = tmp_path / "made.gguf"
    synthetic.write(path, SHAPES["tiny"], "q8_0", vocabulary)
    reader = gguf.GGUFReader(path)
    assert "output.weight" not in {tensor.name for tensor in reader.tensors}
    assert len(fields(path)["tokenizer.ggml.tokens"]) == len(fields(vocabulary)["tokenizer.ggml.tokens"])


@pytest.mark.parametrize("kind", TYPES)
def test_a_tensor_is_written_in_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "PIECE_BYTES", 1000)
    tensor = quantized(kind, 40, 4 * BLOCK, np.random.default_rng(1))
    longest = 0

    class Written(io.BytesIO):
        def write(self, data: Any, /) -> int:
            nonlocal longest
            longest = max(longest, len(data))
            return super().write(data)

    file = Written()
    tensor.tofile(file)
    assert len(file.getvalue()) == tensor.nbytes
    assert longest <= 1000


def test_columns_that_are_no_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks"):
        quantized("q4_0", 4, 33, np.random.default_rng(1))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"text" * 100])
def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(content)
    with pytest.raises(NoVocabulary):
        synthetic.write(tmp_path / "made.gguf", SMALL, "q4_0", wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.gguf"]


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["tiny", str(tmp_path / "made.gguf"), "--vocab", str(tmp_path / "none.gguf")]
    assert synthetic.main(given) == 2
    assert "none.gguf" in capsys.readouterr().err


def test_shapes_have_whole_blocks_and_heads() -> None:
    for shape in SHAPES.values():
        assert shape.width % BLOCK == shape.inner % BLOCK == shape.width % shape.heads == 0
        assert shape.heads % shape.heads_kv == 0
