"""A llama.cpp context as cells that the engine's tree drives.

The cache is unified: only there may `seq_cp` share a part of a sequence (without it, llama.cpp asserts and
takes the process with it).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from sessiond.adapters.base import Aborted, BackendError, ContextSettings, NoRoom, Run, Sampler, SettingsError
from sessiond.adapters.llama_cpp.abort import AbortFlag
from sessiond.adapters.llama_cpp.batch import Batch
from sessiond.adapters.llama_cpp.library import forget_log, last_words, library
from sessiond.adapters.llama_cpp.sampler import SamplerChain
from sessiond.adapters.llama_cpp.tuning import CACHE_TYPES

MAX_SEQUENCES = 16


class LlamaContext:
    """See `sessiond.adapters.base.KvContext`."""

    max_sequences = MAX_SEQUENCES

    spare = 0
    """Tokens of room beside what the settings promise."""

    def __init__(self, model: Any, vocab_size: int, settings: ContextSettings) -> None:
        self.settings = settings
        self._vocab_size = vocab_size
        self._flag = AbortFlag()
        self._rows: list[int] = []
        low = self._low = library()
        forget_log()
        self._native = low.llama_init_from_model(model, _params(settings, self._flag, self.spare))
        if not self._native:
            raise BackendError(f"no context of {settings.num_ctx} tokens could be made: {last_words()}")
        self._memory = low.llama_get_memory(self._native)
        self._batch = Batch(settings.num_batch + self.spare)
        self.cell_bytes = _cell_bytes(model, settings)

    def decode(self, runs: Sequence[Run]) -> None:
        """See `KvContext.decode`."""
        self._check(runs)
        self._compute(runs)

    def _compute(self, runs: Sequence[Run]) -> None:
        batch, rows = self._batch.fill(runs)
        self._rows = []
        forget_log()
        outcome = self._low.llama_decode(self._native, batch)
        match outcome:
            case 0:
                self._rows = rows
            case 1:
                raise NoRoom(f"no cells for {batch.n_tokens} more tokens")
            case 2:
                raise Aborted("the decode was aborted")
            case _:
                raise BackendError(f"llama_decode answered {outcome}: {last_words()}")

    def _check(self, runs: Sequence[Run]) -> None:
        # llama.cpp would refuse most of this too, but only after a look at memory that is not ours to give.
        total = sum(len(run.tokens) for run in runs)
        if not 0 < total <= self.settings.num_batch:
            raise BackendError(f"a batch holds 1 to {self.settings.num_batch} tokens, not {total}")
        if len({run.sequence for run in runs}) < len(runs):
            raise BackendError("two runs of one sequence in one batch")
        for run in runs:
            if not 0 <= run.sequence < self.max_sequences:
                raise BackendError(f"there is no sequence {run.sequence}")
            if not run.tokens:
                raise BackendError("a run has at least one token")
            if run.position != self.end(run.sequence):
                raise BackendError(f"sequence {run.sequence} does not end at {run.position}")
            if min(run.tokens) < 0 or max(run.tokens) >= self._vocab_size:
                raise BackendError("a token is not in the vocabulary")

    def logits(self, run: int) -> bytes:
        """See `KvContext.logits`."""
        found = self._low.llama_get_logits_ith(self._native, self._row(run))
        if not found:
            raise BackendError(f"no logits were kept for run {run}")
        return ctypes.string_at(found, 4 * self._vocab_size)

    def sample(self, run: int, sampler: Sampler) -> int:
        """See `KvContext.sample`."""
        assert isinstance(sampler, SamplerChain)
        return int(self._low.llama_sampler_sample(sampler.native, self._native, self._row(run)))

    def _row(self, run: int) -> int:
        if not 0 <= run < len(self._rows):
            raise BackendError(f"the last decode had no run {run}")
        return self._rows[run]

    def end(self, sequence: int) -> int:
        """See `KvContext.end`."""
        return int(self._low.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def truncate(self, sequence: int, end: int) -> bool:
        """See `KvContext.truncate`."""
        return bool(self._low.llama_memory_seq_rm(self._memory, sequence, end, -1))

    def drop(self, sequence: int) -> None:
        """See `KvContext.drop`. A whole sequence can always be removed."""
        self._low.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def share(self, source: int, target: int, end: int) -> None:
        """See `KvContext.share`."""
        known = range(self.max_sequences)
        if source not in known or target not in known:
            raise BackendError(f"there is no sequence {source if source not in known else target}")
        if self.end(target) or not 0 <= end <= self.end(source):
            raise BackendError(f"sequence {target} cannot share {end} cells of sequence {source}")
        self._low.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def save(self, sequence: int) -> bytes:
        """See `KvContext.save`."""
        size = self._low.llama_state_seq_get_size(self._native, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = self._low.llama_state_seq_get_data(self._native, buffer, size, sequence)
        if written == 0:
            raise BackendError(f"sequence {sequence} could not be saved: {last_words()}")
        return bytes(memoryview(buffer)[:written])

    def load(self, sequence: int, state: bytes) -> None:
        """See `KvContext.load`."""
        if self.end(sequence):
            raise BackendError(f"sequence {sequence} is not empty")
        forget_log()
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = self._low.llama_state_seq_set_data(self._native, buffer, len(state), sequence)
        if read == 0:
            self.drop(sequence)
            words = last_words()
            # Which of the two it was, llama.cpp says in words only.
            if "available cells" in words:
                raise NoRoom(f"no cells for the state: {words}")
            raise BackendError(f"the state could not be loaded: {words}")

    def use_loras(self, adapters: Sequence[Any], scales: Sequence[float]) -> None:
        """Apply these low-rank adapters from now on. Before the first decode, or KV of two kinds would mix."""
        if not adapters:
            return
        natives = (self._low.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        factors = (ctypes.c_float * len(scales))(*scales)
        if self._low.llama_set_adapters_lora(self._native, natives, len(adapters), factors):
            raise SettingsError("lora", f"llama.cpp refused the adapters: {last_words()}")

    def abort(self) -> None:
        """See `KvContext.abort`."""
        self._flag.set()

    def clear_abort(self) -> None:
        """See `KvContext.clear_abort`."""
        self._flag.clear()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._native is None

    def close(self) -> None:
        """See `KvContext.close`."""
        if self._native:
            self._low.llama_free(self._native)
            self._native = None


def _params(settings: ContextSettings, flag: AbortFlag, spare: int) -> Any:
    low = library()
    params = low.llama_context_default_params()
    params.n_ctx = settings.num_ctx + spare
    params.n_batch = settings.num_batch + spare
    params.n_ubatch = settings.num_ubatch + spare
    params.n_seq_max = MAX_SEQUENCES
    params.n_threads = settings.num_threads
    params.n_threads_batch = settings.num_threads_batch
    params.flash_attn_type = (
        low.LLAMA_FLASH_ATTN_TYPE_ENABLED if settings.flash_attn else low.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    params.type_k = params.type_v = CACHE_TYPES[settings.kv_cache_type].native
    params.rope_freq_base = settings.rope_freq_base
    params.rope_freq_scale = settings.rope_freq_scale
    params.kv_unified = True
    params.abort_callback = flag.callback
    params.abort_callback_data = flag.data
    return params


def _cell_bytes(model: Any, settings: ContextSettings) -> int:
    # An estimate from the shape: K and V of each layer. Exact for models whose layers are all alike.
    low = library()
    heads = low.llama_model_n_head(model) or 1
    width = low.llama_model_n_embd(model) // heads * low.llama_model_n_head_kv(model)
    return int(2 * low.llama_model_n_layer(model) * width * CACHE_TYPES[settings.kv_cache_type].bytes_each)
