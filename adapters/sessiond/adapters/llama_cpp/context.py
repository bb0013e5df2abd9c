"""A llama.cpp context as cells that the engine's tree drives.

The cache is unified: only there may `seq_cp` share a part of a sequence (without it, llama.cpp asserts and
takes the process with it).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sessiond.adapters.base import (
    Aborted,
    BackendError,
    ContextSettings,
    Held,
    Likely,
    NoRoom,
    Run,
    Sampler,
    SettingsError,
    Unsupported,
)
from sessiond.adapters.llama_cpp.abort import AbortFlag, listen
from sessiond.adapters.llama_cpp.batch import Batch
from sessiond.adapters.llama_cpp.checkpoints import cut_copy
from sessiond.adapters.llama_cpp.library import forget_log, last_words, library
from sessiond.adapters.llama_cpp.likely import lead, likely
from sessiond.adapters.llama_cpp.sampler import SamplerChain
from sessiond.adapters.llama_cpp.sequences import Sequences
from sessiond.adapters.llama_cpp.shape import KvShape
from sessiond.adapters.llama_cpp.state import check_state
from sessiond.adapters.llama_cpp.state_cut import state_from
from sessiond.adapters.llama_cpp.tuning import CACHE_TYPES

MORE_ROWS = 64
"""Rows of logits in a batch beside one for each run. llama.cpp sets room aside for them: four bytes for each token of the
vocabulary, and each row.
"""
ROUNDING = 0.15
"""See `KvContext.rounding`. It changed by 0.04 to 0.07 between batches of one token and of 2 to 16 (the median), by 0.19 in one of
ten places and by 0.32 in one of a hundred (SmolLM2, Q4_1, whose activations are rounded to eight bits for each product; by
`scripts/rounding.py`). Of 720 places 20 had another likeliest token, and 2 of these led by more than this.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a context is made of, beside what its settings say."""

    max_sequences: int
    """Sequences for others."""
    own_sequences: int = 1
    """Sequences for the context's own use, numbered behind those."""
    row_width: int = 1
    """Rows of a micro-batch are a multiple of this."""
    key_type: int | None = None
    """The type of the keys in ggml.h, if it is not that of the values."""


class LlamaContext:
    """See `sessiond.adapters.base.KvContext`.

    llama.cpp has one sequence more than `max_sequences`, the scratch. It is empty between any two calls: parts are
    put together and taken apart there.
    """

    more_rows = MORE_ROWS
    rounding = ROUNDING
    aborts_by_itself = True
    """Whether llama.cpp may stop in the middle of a micro-batch."""
    ordered = False
    """Whether the cells of a sequence stand in the order of their positions."""

    def __init__(
        self, model: Any, vocab_size: int, settings: ContextSettings, shape: KvShape, plan: Plan | None = None
    ) -> None:
        plan = self._plan = plan or Plan(shape.max_sequences)
        self.settings = settings
        self.max_sequences = plan.max_sequences
        self.cells = settings.num_cells
        self.cell_bytes = shape.cell_bytes(settings)
        self._shape = shape
        self._scratch = self.max_sequences
        self._vocab_size = vocab_size
        self._row_type = ctypes.c_float * vocab_size
        self._flag = AbortFlag()
        self._rows: list[range] = []
        """For each run of the last decode the rows that have logits, the last one first."""
        low = self._low = library()
        forget_log()
        self._native = low.llama_init_from_model(model, _params(settings, plan))
        if not self._native:
            raise BackendError(f"no context of {settings.num_cells} cells could be made: {last_words()}")
        self._sequences = self._make_sequences(self._native)
        self._listen_to(self._flag if self.aborts_by_itself else None)
        self._batch = Batch(settings.num_batch + plan.row_width - 1)

    @property
    def remembers(self) -> bool:
        """Whether anything is kept of what was computed."""
        return self._sequences.exist

    def _make_sequences(self, native: Any) -> Sequences:
        return Sequences(native)

    def decode(self, runs: Sequence[Run]) -> None:
        """See `KvContext.decode`."""
        self._check(runs)
        self._compute(runs)

    def _compute(self, runs: Sequence[Run]) -> None:
        batch, rows = self._batch.fill(runs)
        if self._plan.row_width > 1:
            self._batch.want_more(self._plan.row_width, _grain(self.settings, self._plan))
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
            if not run.tokens:
                raise BackendError("a run has at least one token")
            if run.position != self.end(run.sequence):
                raise BackendError(f"sequence {run.sequence} does not end at {run.position}")
            if min(run.tokens) < 0 or max(run.tokens) >= self._vocab_size:
                raise BackendError("a token is not in the vocabulary")
            if not 0 <= run.want_logits <= len(run.tokens):
                raise BackendError(f"{run.want_logits} of {len(run.tokens)} tokens have no logits")
        if sum(max(0, run.want_logits - 1) for run in runs) > self.more_rows:
            raise BackendError(f"logits of more than {self.more_rows} tokens beside the last ones")

    def logits(self, run: int | Held, back: int = 0) -> bytes:
        """See `KvContext.logits`."""
        return self._view(run, back).tobytes()

    def _view(self, run: int | Held, back: int) -> npt.NDArray[np.float32]:
        """The same where they are: until the next decode, if they are not held."""
        if isinstance(run, Held):
            return np.frombuffer(run.rows[back], np.float32)
        found = self._low.llama_get_logits_ith(self._native, self._row(run, back))
        if not found:
            raise BackendError(f"no logits were kept for run {run}")
        there: Any = self._row_type.from_address(ctypes.addressof(found.contents))
        return np.frombuffer(there, np.float32)

    def sample(self, run: int | Held, sampler: Sampler, back: int = 0) -> int:
        """See `KvContext.sample`."""
        assert isinstance(sampler, SamplerChain)
        if sampler.guarded or isinstance(run, Held):
            return sampler.choose(self.logits(run, back))
        return int(self._low.llama_sampler_sample(sampler.native, self._native, self._row(run, back)))

    def likely(self, run: int | Held, token: int, count: int, back: int = 0) -> Likely:
        """See `KvContext.likely`."""
        return likely(self.logits(run, back), token, count)

    def lead(self, run: int | Held, back: int = 0) -> float:
        """See `KvContext.lead`."""
        return lead(self._view(run, back))

    def _row(self, run: int, back: int) -> int:
        if not 0 <= run < len(self._rows):
            raise BackendError(f"the last decode had no run {run}")
        if not 0 <= back < len(self._rows[run]):
            raise BackendError(f"no logits were kept for run {run}, {back} tokens before its end")
        return self._rows[run][back]

    def end(self, sequence: int) -> int:
        """See `KvContext.end`."""
        self._known(sequence)
        return self._sequences.end(sequence)

    def _known(self, *sequences: int) -> None:
        for sequence in sequences:
            if not 0 <= sequence < self.max_sequences:
                raise BackendError(f"there is no sequence {sequence}")

    def checkpoint(self, sequence: int) -> bytes:
        """See `KvContext.checkpoint`."""
        self._known(sequence)
        if self._shape.can_cut:
            return b""
        if not self._shape.can_share:
            raise Unsupported("fork")
        return self._sequences.save(sequence, partial=True)

    def truncate(self, sequence: int, end: int, checkpoint: bytes = b"") -> bool:
        """See `KvContext.truncate`. A model with a sliding window needs no checkpoint while the window at `end` is
        still there.
        """
        if end < 0:
            raise BackendError(f"{end} is no position")
        if end >= self.end(sequence):
            return True
        if not end or self._shape.can_cut:
            self._sequences.remove(sequence, end)
            return True
        if not cut_copy(self._sequences, self._shape, sequence, self._scratch, end, checkpoint):
            return False
        self._sequences.remove(sequence)
        self._move_scratch_to(sequence)
        return True

    def _move_scratch_to(self, sequence: int) -> None:
        self._sequences.copy(self._scratch, sequence)
        self._sequences.remove(self._scratch)

    def drop(self, sequence: int) -> None:
        """See `KvContext.drop`. A whole sequence can always be removed."""
        self._known(sequence)
        self._sequences.remove(sequence)

    def share(self, source: int, target: int, end: int, checkpoint: bytes = b"") -> None:
        """See `KvContext.share`."""
        held = self.end(source)
        if self.end(target) or not 0 <= end <= held:
            raise BackendError(f"sequence {target} cannot share {end} cells of sequence {source}")
        if not end:
            return
        if end == held or self._shape.can_cut:
            self._sequences.copy(source, target, 0, end)
        elif not cut_copy(self._sequences, self._shape, source, target, end, checkpoint):
            raise Unsupported("truncate")

    def save(self, sequence: int, start: int = 0, end: int | None = None) -> bytes:
        """See `KvContext.save`. llama.cpp writes whole sequences only, so the scratch shares the cells of a part of one:
        that copies none of them, and takes memory for that part alone.
        """
        held = self.end(sequence)
        end = held if end is None else end
        if not 0 <= start <= end <= held:
            raise BackendError(f"sequence {sequence} holds {held} positions, not {start} to {end}")
        if (start, end) == (0, held):
            return self._sequences.save(sequence)
        if not self._shape.can_cut:
            raise Unsupported("truncate")
        try:
            if start < end:
                self._sequences.copy(sequence, self._scratch, start, end)
            return self._sequences.save(self._scratch)
        finally:
            self._sequences.remove(self._scratch)

    def load(self, sequence: int, state: bytes, start: int = 0, skip: int = 0) -> None:
        """See `KvContext.load`."""
        if self.end(sequence) != start or not 0 <= skip <= start:
            raise BackendError(
                f"sequence {sequence} does not end at {start}, {skip} positions behind a state's first"
            )
        layout, window = self._shape.layout, self._shape.window
        if layout is None:
            raise Unsupported("snapshot")
        if skip and not self._shape.can_cut:
            raise Unsupported("truncate")
        end = check_state(state, layout, start - skip, window=window, ordered=self.ordered)
        if end < start:
            raise BackendError(f"the state ends at {end}, before {start}")
        if end - start > self.cells:
            raise NoRoom(f"{end - start} positions in {self.cells} cells")
        if end == start:
            return
        if skip:
            state = state_from(state, layout, start)
        try:
            self._sequences.load(self._scratch, state)
            if self._sequences.end(self._scratch) != end:
                raise BackendError(f"the state was loaded and does not end at {end}")
            self._sequences.copy(self._scratch, sequence)
        finally:
            self._sequences.remove(self._scratch)

    def use_loras(self, adapters: Sequence[Any], scales: Sequence[float]) -> None:
        """Apply these low-rank adapters from now on. Before the first decode, or KV of two kinds would mix."""
        if not adapters:
            return
        natives = (self._low.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        factors = (ctypes.c_float * len(scales))(*scales)
        if self._low.llama_set_adapters_lora(self._native, natives, len(adapters), factors):
            raise SettingsError("lora", f"llama.cpp refused the adapters: {last_words()}")

    def _listen_to(self, flag: AbortFlag | None) -> None:
        listen(self._native, flag)

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


def _grain(settings: ContextSettings, plan: Plan) -> int:
    """Rows of a full micro-batch."""
    return max(settings.num_ubatch // plan.row_width, 1) * plan.row_width


def _params(settings: ContextSettings, plan: Plan) -> Any:
    low = library()
    params = low.llama_context_default_params()
    fillers = plan.row_width - 1
    params.n_ctx = settings.num_cells + fillers
    params.n_batch = settings.num_batch + fillers
    params.n_ubatch = _grain(settings, plan)
    params.n_seq_max = plan.max_sequences + plan.own_sequences
    # At most one for each sequence and so many more, and what fills each one's micro-batch up. llama.cpp asserts that
    # there are no more, and would otherwise set aside room for the logits of a whole micro-batch.
    params.n_outputs_max = (params.n_seq_max + MORE_ROWS) * plan.row_width
    params.n_threads = settings.num_threads
    params.n_threads_batch = settings.num_threads_batch
    params.flash_attn_type = (
        low.LLAMA_FLASH_ATTN_TYPE_ENABLED if settings.flash_attn else low.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    params.type_v = CACHE_TYPES[settings.kv_cache_type].native
    params.type_k = params.type_v if plan.key_type is None else plan.key_type
    params.rope_freq_base = settings.rope_freq_base
    params.rope_freq_scale = settings.rope_freq_scale
    params.kv_unified = True
    # Else cells of a sliding window are given to others as soon as they leave it, and no cut succeeds any more.
    params.swa_full = True
    return params
