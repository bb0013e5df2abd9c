"""Vectors of texts, by a context of their own: it pools, and holds no sequence from one text to the next."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from sessiond.adapters.base import Aborted, BackendError, ContextSettings, Run
from sessiond.adapters.llama_cpp.abort import AbortFlag, listen
from sessiond.adapters.llama_cpp.batch import Batch
from sessiond.adapters.llama_cpp.library import forget_log, last_words, library

POOLINGS = {"1": "mean", "2": "cls", "3": "last"}
"""By the number in a file's metadata. Without pooling there is no vector of a text, and 4 ranks pairs of texts."""
MOST_TOKENS = 2048
"""Of one text. All of them go into one micro-batch, whose attention takes memory with the square of their number."""


class LlamaEmbedder:
    """See `sessiond.adapters.base.Embedder`."""

    def __init__(
        self,
        model: Any,
        pooling: str,
        vocab_size: int,
        settings: ContextSettings,
        tokens: Callable[[str], list[int]],
    ) -> None:
        self.window = min(settings.num_ctx, MOST_TOKENS)
        self.pooling = pooling
        self._tokens = tokens
        self._model = model
        self._vocab_size = vocab_size
        self._settings = settings
        self._low = library()
        self._width = int(self._low.llama_model_n_embd_out(model))
        self._flag = AbortFlag()
        self._native: Any = None
        self._batch: Batch | None = None
        self._closed = False

    def tokens(self, text: str) -> list[int]:
        """See `Embedder.tokens`."""
        return self._tokens(text)

    def embed(self, tokens: Sequence[int]) -> bytes:
        """See `Embedder.embed`."""
        if not 0 < len(tokens) <= self.window:
            raise BackendError(f"a text has 1 to {self.window} tokens, not {len(tokens)}")
        if min(tokens) < 0 or max(tokens) >= self._vocab_size:
            raise BackendError("a token is not in the vocabulary")
        native, batch = self._context()
        if memory := self._low.llama_get_memory(native):
            self._low.llama_memory_clear(memory, True)
        forget_log()
        filled, _ = batch.fill([Run(0, 0, tokens)])
        batch.want_all()
        outcome = self._low.llama_decode(native, filled)
        if self._flag.is_set or outcome == 2:
            raise Aborted("the text was aborted")
        if outcome:
            raise BackendError(f"llama_decode answered {outcome}: {last_words()}")
        found = self._low.llama_get_embeddings_seq(native, 0)
        if not found:
            raise BackendError("the model gave no vector")
        return ctypes.string_at(found, 4 * self._width)

    def _context(self) -> tuple[Any, Batch]:
        if self._closed:
            raise BackendError("the embedder is closed")
        if self._native is None or self._batch is None:
            forget_log()
            self._native = self._low.llama_init_from_model(self._model, self._params())
            if not self._native:
                raise BackendError(f"no context for vectors could be made: {last_words()}")
            listen(self._native, self._flag)
            self._batch = Batch(self.window)
        return self._native, self._batch

    def _params(self) -> Any:
        settings = self._settings
        params = self._low.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.window
        params.n_seq_max = 1
        params.embeddings = True
        params.n_threads = settings.num_threads
        params.n_threads_batch = settings.num_threads_batch
        params.rope_freq_base = settings.rope_freq_base
        params.rope_freq_scale = settings.rope_freq_scale
        return params

    def rest(self) -> None:
        """See `Embedder.rest`."""
        if self._native is not None:
            self._low.llama_free(self._native)
        self._native = self._batch = None

    def abort(self) -> None:
        """See `Embedder.abort`."""
        self._flag.set()

    def clear_abort(self) -> None:
        """See `Embedder.clear_abort`."""
        self._flag.clear()

    def close(self) -> None:
        """See `Embedder.close`."""
        self.rest()
        self._closed = True
