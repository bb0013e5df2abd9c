"""Small GGUF models with random weights from a fixed seed, one of each kind of memory.

They say nothing of sense, and each token of theirs depends on exactly what the kind's memory keeps: cells, a sliding
window of cells, a recurrent state, or a state beside cells. A file has a few hundred kilobytes and is written in no
time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WINDOW = 32
"""Tokens that a layer with a sliding window sees."""
CONTEXT = 4096
"""Tokens that the models say they were trained for."""

_WIDTH = 64
_BERT_CONTEXT = 256
_INNER = 2 * _WIDTH
_HEADS = 2
_STATE = 16
_KERNEL = 4
_RANK = 4
_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class _Weights:
    """Random numbers under names, put into a file as they come."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int) -> None:
        """What maps `columns` numbers to `rows`; about as large as what comes in."""
        values = self._random.standard_normal((rows, columns)) / np.sqrt(columns)
        self._writer.add_tensor(name, values.astype(np.float16))

    def vector(self, name: str, size: int, around: float = 1.0, spread: float = 0.1) -> None:
        """Numbers near `around`, such as a norm's."""
        values = around + spread * self._random.standard_normal(size)
        self._writer.add_tensor(name, values.astype(np.float32))

    def table(self, name: str, rows: int, columns: int, around: float, spread: float) -> None:
        """Numbers near `around` that take part one by one."""
        values = around + spread * self._random.standard_normal((rows, columns))
        self._writer.add_tensor(name, values.astype(np.float32))


def plain(path: Path, layers: int = 4) -> None:
    """Llama: cells for each token, and nothing else."""

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer, [_HEADS] * layers)
        writer.add_rope_dimension_count(_WIDTH // _HEADS)

    def fill(weights: _Weights) -> None:
        for layer in range(layers):
            _attention(weights, f"blk.{layer}")
            _feed_forward(weights, f"blk.{layer}")

    _write(path, "llama", layers, describe, fill)


def pooled(path: Path, pooling: gguf.PoolingType = gguf.PoolingType.LAST, layers: int = 2) -> None:
    """Llama, made for vectors: it says how those of a text's tokens become one."""

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer, [_HEADS] * layers)
        writer.add_rope_dimension_count(_WIDTH // _HEADS)
        writer.add_pooling_type(pooling)

    def fill(weights: _Weights) -> None:
        for layer in range(layers):
            _attention(weights, f"blk.{layer}")
            _feed_forward(weights, f"blk.{layer}")

    _write(path, "llama", layers, describe, fill)


def bert(path: Path, pooling: gguf.PoolingType = gguf.PoolingType.CLS, layers: int = 2) -> None:
    """Bert: it reads a whole text at once, and remembers nothing of it."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(_BERT_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_eps(1e-6)
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    size = _add_word_pieces(writer)
    weights = _Weights(writer, seed=9)

    def norm(name: str) -> None:
        weights.vector(f"{name}.weight", _WIDTH)
        weights.vector(f"{name}.bias", _WIDTH, around=0.0)

    weights.matrix("token_embd.weight", size, _WIDTH)
    weights.table("token_types.weight", 2, _WIDTH, around=0.0, spread=0.1)
    weights.table("position_embd.weight", _BERT_CONTEXT, _WIDTH, around=0.0, spread=0.2)
    norm("token_embd_norm")
    for layer in range(layers):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.matrix(f"{block}.{part}.weight", _WIDTH, _WIDTH)
            weights.vector(f"{block}.{part}.bias", _WIDTH, around=0.0)
        weights.matrix(f"{block}.ffn_up.weight", _INNER, _WIDTH)
        weights.vector(f"{block}.ffn_up.bias", _INNER, around=0.0)
        weights.matrix(f"{block}.ffn_down.weight", _WIDTH, _INNER)
        weights.vector(f"{block}.ffn_down.bias", _WIDTH, around=0.0)
        norm(f"{block}.attn_output_norm")
        norm(f"{block}.layer_output_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_word_pieces(writer: gguf.GGUFWriter) -> int:
    """Letters that open a word, letters that go on in one, and a few words; how many they are."""
    letters = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [
        *special,
        *(f"\u2581{letter}" for letter in letters),
        *letters,
        "\u2581the",
        "\u2581value",
        "ing",
    ]
    kinds = [gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.NORMAL] * (len(tokens) - len(special))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_eos_token_id(3)
    writer.add_mask_token_id(4)
    return len(tokens)


def sliding_window(path: Path, layers: int = 4) -> None:
    """Gemma 3: every other layer sees the last `WINDOW` tokens only."""

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer, [_HEADS] * layers)
        writer.add_sliding_window(WINDOW)
        writer.add_sliding_window_pattern([layer % 2 == 0 for layer in range(layers)])

    def fill(weights: _Weights) -> None:
        for layer in range(layers):
            block = f"blk.{layer}"
            _attention(weights, block)
            for name in ("post_attention_norm", "post_ffw_norm"):
                weights.vector(f"{block}.{name}.weight", _WIDTH)
            for name in ("attn_q_norm", "attn_k_norm"):
                weights.vector(f"{block}.{name}.weight", _WIDTH // _HEADS)
            _feed_forward(weights, block)

    _write(path, "gemma3", layers, describe, fill)


def recurrent(path: Path, layers: int = 4) -> None:
    """Mamba: one state for all tokens, and no cells."""

    def fill(weights: _Weights) -> None:
        for layer in range(layers):
            weights.vector(f"blk.{layer}.attn_norm.weight", _WIDTH)
            _mixer(weights, f"blk.{layer}")

    _write(path, "mamba", layers, _describe_mixer, fill)


def hybrid(path: Path, layers: int = 4) -> None:
    """Jamba: layers with a state and layers with cells in turn."""

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe_attention(writer, [_HEADS * (layer % 2) for layer in range(layers)])
        _describe_mixer(writer)

    def fill(weights: _Weights) -> None:
        for layer in range(layers):
            block = f"blk.{layer}"
            if layer % 2:
                _attention(weights, block)
            else:
                weights.vector(f"{block}.attn_norm.weight", _WIDTH)
                _mixer(weights, block)
                for name, size in (("ssm_dt_norm", _RANK), ("ssm_b_norm", _STATE), ("ssm_c_norm", _STATE)):
                    weights.vector(f"{block}.{name}.weight", size)
            _feed_forward(weights, block)

    _write(path, "jamba", layers, describe, fill)


KINDS: dict[str, Callable[[Path, int], None]] = {
    "plain": plain,
    "sliding-window": sliding_window,
    "recurrent": recurrent,
    "hybrid": hybrid,
}
"""What writes a model of each kind to a path, with so many layers: the more, the slower."""


def _write(
    path: Path,
    family: str,
    layers: int,
    describe: Callable[[gguf.GGUFWriter], None],
    fill: Callable[[_Weights], None],
) -> None:
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(layers)
    writer.add_layer_norm_rms_eps(1e-5)
    describe(writer)
    size = _add_vocabulary(writer)
    weights = _Weights(writer, seed=7)
    weights.matrix("token_embd.weight", size, _WIDTH)
    weights.vector("output_norm.weight", _WIDTH)
    weights.matrix("output.weight", size, _WIDTH)
    fill(weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe_attention(writer: gguf.GGUFWriter, heads: list[int]) -> None:
    """Heads of each layer; a layer without any has a state instead."""
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(heads)
    writer.add_key_length(_WIDTH // _HEADS)
    writer.add_value_length(_WIDTH // _HEADS)


def _describe_mixer(writer: gguf.GGUFWriter) -> None:
    writer.add_ssm_conv_kernel(_KERNEL)
    writer.add_ssm_inner_size(_INNER)
    writer.add_ssm_state_size(_STATE)
    writer.add_ssm_time_step_rank(_RANK)


def _attention(weights: _Weights, block: str) -> None:
    weights.vector(f"{block}.attn_norm.weight", _WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        weights.matrix(f"{block}.{name}.weight", _WIDTH, _WIDTH)


def _feed_forward(weights: _Weights, block: str) -> None:
    weights.vector(f"{block}.ffn_norm.weight", _WIDTH)
    weights.matrix(f"{block}.ffn_gate.weight", _INNER, _WIDTH)
    weights.matrix(f"{block}.ffn_up.weight", _INNER, _WIDTH)
    weights.matrix(f"{block}.ffn_down.weight", _WIDTH, _INNER)


def _mixer(weights: _Weights, block: str) -> None:
    weights.matrix(f"{block}.ssm_in.weight", 2 * _INNER, _WIDTH)
    weights.table(f"{block}.ssm_conv1d.weight", _INNER, _KERNEL, around=0.0, spread=0.5)
    weights.vector(f"{block}.ssm_conv1d.bias", _INNER, around=0.0)
    weights.matrix(f"{block}.ssm_x.weight", _RANK + 2 * _STATE, _INNER)
    weights.matrix(f"{block}.ssm_dt.weight", _INNER, _RANK)
    weights.vector(
        f"{block}.ssm_dt.bias", _INNER, around=-3.0, spread=0.5
    )  # slow steps: old tokens still count
    weights.table(f"{block}.ssm_a", _INNER, _STATE, around=-1.0, spread=0.2)
    weights.vector(f"{block}.ssm_d", _INNER)
    weights.matrix(f"{block}.ssm_out.weight", _WIDTH, _INNER)


def _add_vocabulary(writer: gguf.GGUFWriter) -> int:
    """A token for each byte, one for a frequent pair, and the special ones; how many they are."""
    plain = [*_byte_characters(), "Ġt"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    kinds = [gguf.TokenType.NORMAL] * len(plain) + [gguf.TokenType.CONTROL] * len(special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(plain + special)
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(len(plain))
    writer.add_eos_token_id(len(plain) + 2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_CHAT)
    return len(kinds)


def _byte_characters() -> list[str]:
    """The character that stands for each byte in such vocabularies: itself if it is visible, else one above 255."""
    visible: list[Any] = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte if byte in visible else 256 + hidden.index(byte)) for byte in range(256)]
