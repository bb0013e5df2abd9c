"""A model of a given shape with random weights and a real vocabulary, as a GGUF file.

How long a first token takes depends on the shape, the type of the weights and the tokens, and not on what the weights
are; so sizes that cannot be shipped can be measured all the same. What such a model answers means nothing.

    scripts/bench synthetic 0.5b FILE [--type q4_0] [--vocab VOCAB.gguf]

Tensors are made and written piece by piece, so that a model may be larger than the memory. The vocabulary is that of
Qwen2, from the source distribution of the locked bindings, or of any GGUF file that `--vocab` names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import gguf
import numpy as np
import platformdirs
from numpy.typing import NDArray

import build_llama
import build_peer
import provision

PIECE_BYTES = 8 << 20
"""Of a tensor that is in memory at a time."""
BLOCK = 32
"""Weights that share a scale, in both types."""
VOCABULARY = "ggml-vocab-qwen2.gguf"
KEPT = (
    VOCABULARY,
    *(
        f"ggml-vocab-{name}.gguf"
        for name in ("deepseek-coder", "llama-bpe", "llama-spm", "phi-3", "starcoder")
    ),
)
"""Vocabularies that are kept when one is fetched: the source that they come with is large."""
MOST_TOKENS = 1 << 20
SEED = 7


@dataclass(frozen=True, slots=True)
class Shape:
    """A model of the family of Qwen2."""

    layers: int
    width: int
    inner: int
    heads: int
    heads_kv: int
    vocab: int
    tied: bool
    """Whether the embedding is the output, too."""
    context: int = 32_768
    rope_base: float = 1e6

    @property
    def head(self) -> int:
        """Numbers of one head."""
        return self.width // self.heads


SHAPES = {
    "0.5b": Shape(24, 896, 4864, 14, 2, 151_936, tied=True),
    "1.5b": Shape(28, 1536, 8960, 12, 2, 151_936, tied=True),
    "7b": Shape(28, 3584, 18_944, 28, 4, 152_064, tied=False),
    "tiny": Shape(2, 64, 128, 2, 1, 0, tied=True, context=4096),
}
"""Of the coder models of that family; `tiny` has as many tokens as its vocabulary."""

TYPES = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}
_QUANT_BYTES = {"q4_0": BLOCK // 2, "q8_0": BLOCK}
_SPREAD = {"q4_0": 8 / 4.6, "q8_0": 127 / 73.3}
"""The largest quant of the standard deviation of evenly spread ones: the scale makes weights as large as trained ones."""


class NoVocabulary(Exception):
    """There is no vocabulary to be had. The message says why."""


class Tensor:
    """A tensor's bytes, made while they are written. It stands for an array where `gguf` only asks for its size."""

    def __init__(self, size: int, pieces: Callable[[], Iterator[NDArray[Any]]]) -> None:
        self.nbytes = size
        self._pieces = pieces

    def tofile(self, file: IO[bytes]) -> None:
        """Write all of it. Raises OSError."""
        written = 0
        for piece in self._pieces():
            file.write(piece.tobytes())
            written += piece.nbytes
        if written != self.nbytes:
            raise RuntimeError(f"a tensor of {self.nbytes} bytes came to {written}")


def quantized(kind: str, rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """Random blocks whose scales make the weights about as large as one over the root of what comes in."""
    if columns % BLOCK:
        raise ValueError(f"{columns} columns are no whole number of blocks of {BLOCK}")
    blocks = rows * columns // BLOCK
    each = 2 + _QUANT_BYTES[kind]
    scale = _SPREAD[kind] / np.sqrt(columns) / (8 if kind == "q4_0" else 127)

    def pieces() -> Iterator[NDArray[Any]]:
        step = max(1, PIECE_BYTES // each)
        for start in range(0, blocks, step):
            count = min(step, blocks - start)
            piece = np.empty((count, each), dtype=np.uint8)
            # Between a half and the whole of it: a scale is never zero, and always finite.
            scales = (scale * rng.uniform(0.5, 1.0, count)).astype("<f2")
            piece[:, :2] = scales.view(np.uint8).reshape(count, 2)
            piece[:, 2:] = rng.integers(0, 256, (count, each - 2), dtype=np.uint8)
            yield piece

    return Tensor(blocks * each, pieces)


def write(path: Path, shape: Shape, kind: str, vocabulary: Path) -> None:
    """Write the model; what stood at `path` stays if that fails. Raises NoVocabulary, ValueError, OSError."""
    fields = vocabulary_of(vocabulary)
    size = max(shape.vocab, len(fields["tokenizer.ggml.tokens"]))
    temporary = path.with_name(f".{path.name}~")
    try:
        writer = gguf.GGUFWriter(temporary, "qwen2")
        _describe(writer, shape, kind, path.stem)
        _add_vocabulary(writer, fields, size)
        tensors = list(_tensors(shape, size, kind))
        for name, dims, type_, tensor in tensors:
            writer.add_tensor_info(name, dims, np.dtype(np.float32), tensor.nbytes, type_)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, _, _, tensor in tensors:
            writer.write_tensor_data(cast("Any", tensor))
        writer.close()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def vocabulary_of(path: Path) -> dict[str, Any]:
    """The fields of a file's tokenizer, by key. Raises NoVocabulary."""
    try:
        reader = gguf.GGUFReader(path)
        found = {
            name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")
        }
    except (OSError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise NoVocabulary(f"{path.name} cannot be read as GGUF: {error}") from error
    tokens = found.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not 0 < len(cast("list[str]", tokens)) <= MOST_TOKENS:
        raise NoVocabulary(f"{path.name} holds no vocabulary")
    return found


def _describe(writer: gguf.GGUFWriter, shape: Shape, kind: str, name: str) -> None:
    writer.add_name(f"{name}: random weights")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads_kv)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(
        {"q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}[kind]
    )


def _add_vocabulary(writer: gguf.GGUFWriter, fields: dict[str, Any], size: int) -> None:
    """As it was, with unused tokens up to the size that the shape has, as the real models have them."""
    tokens = list(fields["tokenizer.ggml.tokens"])
    kinds = list(fields.get("tokenizer.ggml.token_type") or [gguf.TokenType.NORMAL] * len(tokens))
    unused = range(len(tokens), size)
    writer.add_tokenizer_model(fields.get("tokenizer.ggml.model", "gpt2"))
    writer.add_tokenizer_pre(fields.get("tokenizer.ggml.pre", "qwen2"))
    writer.add_token_list([*tokens, *(f"[PAD{index}]" for index in unused)])
    writer.add_token_types([*kinds, *(gguf.TokenType.UNUSED for _ in unused)])
    if merges := fields.get("tokenizer.ggml.merges"):
        writer.add_token_merges(merges)
    adders: dict[str, Callable[[int], None]] = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "padding": writer.add_pad_token_id,
        "unknown": writer.add_unk_token_id,
    }
    for name, add in adders.items():
        if (token := fields.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            add(int(token))
    writer.add_add_bos_token(bool(fields.get("tokenizer.ggml.add_bos_token", False)))
    if template := fields.get("tokenizer.chat_template"):
        writer.add_chat_template(template)


_Described = tuple[str, Sequence[int], gguf.GGMLQuantizationType, Tensor]


def _tensors(shape: Shape, size: int, kind: str) -> Iterator[_Described]:
    """All of them, in the order of the file."""
    rng = np.random.default_rng(SEED)
    wide, narrow = shape.width, shape.heads_kv * shape.head

    def matrix(name: str, rows: int, columns: int) -> _Described:
        return name, (rows, columns), TYPES[kind], quantized(kind, rows, columns, rng)

    def vector(name: str, length: int, around: float) -> _Described:
        def pieces() -> Iterator[NDArray[Any]]:
            yield (around + 0.05 * rng.standard_normal(length)).astype("<f4")

        return name, (length,), gguf.GGMLQuantizationType.F32, Tensor(4 * length, pieces)

    yield matrix("token_embd.weight", size, wide)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield vector(f"{block}.attn_norm.weight", wide, 1.0)
        for part, rows in (("q", wide), ("k", narrow), ("v", narrow)):
            yield matrix(f"{block}.attn_{part}.weight", rows, wide)
            yield vector(f"{block}.attn_{part}.bias", rows, 0.0)
        yield matrix(f"{block}.attn_output.weight", wide, wide)
        yield vector(f"{block}.ffn_norm.weight", wide, 1.0)
        yield matrix(f"{block}.ffn_gate.weight", shape.inner, wide)
        yield matrix(f"{block}.ffn_up.weight", shape.inner, wide)
        yield matrix(f"{block}.ffn_down.weight", wide, shape.inner)
    yield vector("output_norm.weight", wide, 1.0)
    if not shape.tied:
        yield matrix("output.weight", size, wide)


def real_vocabulary(name: str = VOCABULARY) -> Path:
    """One of `KEPT`, from the user's cache; fetched with the bindings' source if it is not there. Raises NoVocabulary."""
    kept = platformdirs.user_cache_path("sessiond") / "vocabularies" / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            source = Path(folder, "llama.cpp")
            try:
                requirement = provision.locked_requirement(build_llama.PACKAGE)
                build_peer.fetch_source(requirement, source)
                for each in KEPT:
                    (source / "models" / each).replace(kept.parent / each)
            except (*build_peer.FAULTS, OSError, ValueError) as error:
                raise NoVocabulary(f"the vocabulary cannot be fetched: {error}") from error
    return kept


def main(given: list[str]) -> int:
    """Write one. 0: it was written, 2: it could not be."""
    parser = argparse.ArgumentParser(prog="bench synthetic", description="A model with random weights.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--type", choices=TYPES, default="q4_0", help="of the weights (default: q4_0)")
    parser.add_argument("--vocab", type=Path, help="a GGUF file with a vocabulary (default: Qwen2's)")
    asked = parser.parse_args(given)
    try:
        write(asked.file, SHAPES[asked.shape], asked.type, asked.vocab or real_vocabulary())
    except (NoVocabulary, ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(asked.file)
    return 0
