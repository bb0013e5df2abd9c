"""Text to tokens and back. llama.cpp's tokenizer is safe to call from any thread."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from sessiond.adapters.base import BackendError, FimTokens, VocabFacts
from sessiond.adapters.llama_cpp.library import library

_PIECE_BYTES = 512
"""Longer than the pieces of any known vocabulary; a longer one asks again with the right size."""


class Vocab:
    """The vocabulary of a loaded model. Valid as long as the model."""

    def __init__(self, model: Any) -> None:
        self._low = library()
        self._native = self._low.llama_model_get_vocab(model)
        self._size = int(self._low.llama_vocab_n_tokens(self._native))
        self._pieces: dict[int, bytes] = {}
        self.facts = self._facts(model)

    def tokenize(self, text: str, *, parse_special: bool, whole: bool = False) -> list[int]:
        """See `Model.tokenize`. A `whole` text has the tokens around it that the vocabulary puts there."""
        data = text.encode()
        if not data and not whole:
            return []
        room = len(data) + 8  # never more tokens than bytes, but for a prefix space and its like
        for _ in range(2):
            tokens = (ctypes.c_int32 * room)()
            count = self._low.llama_tokenize(
                self._native, data, len(data), tokens, room, whole, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            room = -count
        raise BackendError("the text could not be tokenized")

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """See `Model.pieces`."""
        return [self._piece(token) for token in tokens]

    def _piece(self, token: int) -> bytes:
        found = self._pieces.get(token)
        if found is None:
            if not 0 <= token < self._size:
                raise BackendError(f"token {token} is not in the vocabulary")
            found = self._pieces[token] = self._render(token, special=False)
        return found

    def _render(self, token: int, *, special: bool) -> bytes:
        room = _PIECE_BYTES
        for _ in range(2):
            buffer = ctypes.create_string_buffer(room)
            count = self._low.llama_token_to_piece(self._native, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count
        raise BackendError(f"token {token} has no piece")

    def _facts(self, model: Any) -> VocabFacts:
        low, native = self._low, self._native
        bos, eos = low.llama_vocab_bos(native), low.llama_vocab_eos(native)
        template = low.llama_model_chat_template(model, None)
        return VocabFacts(
            size=self._size,
            bos=bos if bos >= 0 else None,
            add_bos=bool(low.llama_vocab_get_add_bos(native)),
            end_tokens=frozenset(t for t in range(self._size) if low.llama_vocab_is_eog(native, t)),
            digest=self._digest(),
            chat_template=template.decode("utf-8", "replace") if template else "",
            bos_text=self._special_text(bos),
            eos_text=self._special_text(eos),
            fim=self._fim(),
            opens_with_space=self._opens_with_space(),
        )

    def _fim(self) -> FimTokens | None:
        low, native = self._low, self._native
        prefix, suffix, middle, file = (
            int(find(native))
            for find in (
                low.llama_vocab_fim_pre,
                low.llama_vocab_fim_suf,
                low.llama_vocab_fim_mid,
                low.llama_vocab_fim_sep,
            )
        )
        if min(prefix, suffix, middle) < 0 or len({prefix, suffix, middle}) < 3:
            return None
        return FimTokens(prefix, suffix, middle, file if file >= 0 else None)

    def _opens_with_space(self) -> bool:
        tokens = self.tokenize("\n", parse_special=False)
        return b"".join(self.pieces(tokens)) == b" \n"

    def _special_text(self, token: int) -> str:
        return self._render(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _digest(self) -> str:
        low, native = self._low, self._native
        told = hashlib.sha256()
        told.update(
            struct.pack("<ii?", low.llama_vocab_type(native), self._size, low.llama_vocab_get_add_bos(native))
        )
        for token in range(self._size):
            text = low.llama_vocab_get_text(native, token) or b""
            told.update(struct.pack("<iI", low.llama_vocab_get_attr(native, token), len(text)))
            told.update(text)
        return told.hexdigest()
