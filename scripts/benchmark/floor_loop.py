"""The floor's process: one context of llama.cpp, and nothing but `llama_decode`, the sampler and copies of states.

It sleeps while others work.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from benchmark.sides import Runtime
from benchmark.stamps import Stamps

KEPT_STATES = 6
"""Prefixes whose KV is kept beside the cells, so that going back to one needs no prefill that nobody times."""
WORTH_KEEPING = 256
"""Tokens that were computed for a prefix, from which on it is kept."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How the context is made."""

    runtime: Runtime
    cells: int
    streams: int
    kept_states: int = KEPT_STATES
    """0 where nobody goes back to a prefix."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One run. What is `hot` is there before the clock starts, or, if `restore`, is copied back while it runs."""

    hot: tuple[int, ...]
    rest: tuple[tuple[int, ...], ...]
    """What each stream has after that, at least one token each: all of it is computed."""
    answer: int
    restore: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """What it cost."""

    first_ms: float
    streams: list[Stamps] = field(default_factory=list[Stamps])


@dataclass(frozen=True, slots=True)
class Refused:
    """What llama.cpp did not do."""

    why: str


@dataclass(frozen=True, slots=True)
class Phase:
    """One line of the prompt-caching table."""

    name: str
    ms: float
    tokens: int
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Caching:
    """One prompt and many questions: see `prompt_caching`."""

    prompt: tuple[int, ...]
    questions: tuple[tuple[int, ...], ...]
    answer: int


def serve(setup: Setup, pipe: Connection) -> None:
    """Answer what comes through the pipe, until it is closed."""
    os.environ.update(setup.runtime.environ)  # OpenMP reads them when llama.cpp is loaded
    try:
        loop = Loop(setup)
    except RuntimeError as error:
        pipe.send(Refused(str(error)))
        return
    pipe.send("ready")
    while True:
        try:
            asked: Ask | Caching = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(loop.run(asked) if isinstance(asked, Ask) else loop.phases(asked))
        except RuntimeError as error:
            pipe.send(Refused(str(error)))


@functools.cache
def _library() -> Any:
    """llama.cpp's low-level functions. Its log is no part of the comparison."""
    from llama_cpp import llama_cpp

    low: Any = llama_cpp  # its handles may be None by type; here they are checked

    def say_nothing(_level: int, _text: bytes, _data: object) -> None:
        """Instead of the log."""

    silent = low.llama_log_callback(say_nothing)
    _CALLBACKS.append(silent)
    low.llama_log_set(silent, None)
    low.llama_backend_init()
    return low


_CALLBACKS: list[object] = []
"""C calls them as long as the process lives, and ctypes keeps none of them alive."""


class Loop:
    """The context, a sequence for each stream. The first one holds what stands now."""

    def __init__(self, setup: Setup) -> None:
        """Raises RuntimeError if the model or its context cannot be made."""
        low = _library()
        self._low, self._streams, self._kept = low, setup.streams, setup.kept_states
        self._context = self._made(setup)
        self._memory = low.llama_get_memory(self._context)
        self._sampler = low.llama_sampler_init_greedy()
        self._step = setup.runtime.num_batch
        self._batch = low.llama_batch_init(self._step, 0, 1)
        self._stands: tuple[int, ...] = ()
        self._states: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def run(self, ask: Ask) -> Ran:
        """See Ask. Raises RuntimeError if llama.cpp refuses."""
        self._stand_on(ask.hot)
        saved = self._saved(ask.hot) if ask.restore else None
        if saved is not None:
            self._low.llama_memory_seq_rm(self._memory, 0, -1, -1)
        for stream in range(1, len(ask.rest)):
            self._low.llama_memory_seq_cp(self._memory, 0, stream, -1, -1)
        begun = time.perf_counter()
        if saved is not None:
            self._load(saved)
        start = len(ask.hot)
        tokens = self._decode([(stream, start, ids) for stream, ids in enumerate(ask.rest)])
        first = time.perf_counter()
        streams: list[list[tuple[float, int]]] = [[(first, 1)] for _ in tokens]
        for step in range(ask.answer - 1):
            ends = [start + len(ids) + step for ids in ask.rest]
            tokens = self._decode([(stream, ends[stream], (token,)) for stream, token in enumerate(tokens)])
            now = time.perf_counter()
            for stamps in streams:
                stamps.append((now, 1))
        # What was answered is cut off again at the next run, which stands on its own tokens.
        self._stands = (*ask.hot, *ask.rest[0]) if len(ask.rest) == 1 else ask.hot
        if len(ask.rest) == 1 and len(ask.rest[0]) >= WORTH_KEEPING:
            self._cut(len(self._stands))
            self._keep(self._stands)
        return Ran((first - begun) * 1e3, list(streams))

    def phases(self, asked: Caching) -> list[Phase]:
        """See Caching."""
        return list(self._phases(asked))

    def _phases(self, asked: Caching) -> Iterator[Phase]:
        begun = time.perf_counter()
        self._cut(0)
        yield Phase("reset", _ms_since(begun), 0)
        begun = time.perf_counter()
        self._decode([(0, 0, asked.prompt)])
        yield Phase("eval", _ms_since(begun), len(asked.prompt))
        begun = time.perf_counter()
        state = self._state()
        yield Phase("save state", _ms_since(begun), len(asked.prompt), len(state))
        for question in asked.questions:
            self._cut(0)
            begun = time.perf_counter()
            self._load(state)
            yield Phase("load state", _ms_since(begun), len(asked.prompt), len(state))
            begun = time.perf_counter()
            [token] = self._decode([(0, len(asked.prompt), question)])
            yield Phase("eval prompt", _ms_since(begun), len(question))
            begun, at = time.perf_counter(), len(asked.prompt) + len(question)
            for step in range(asked.answer):
                [token] = self._decode([(0, at + step, (token,))])
            yield Phase("main sample", _ms_since(begun), asked.answer)
        self._cut(0)
        self._stands = ()

    def _made(self, setup: Setup) -> Any:
        low, runtime = self._low, setup.runtime
        loading = low.llama_model_default_params()
        if runtime.gpu_layers is not None:
            loading.n_gpu_layers = runtime.gpu_layers
        model = low.llama_model_load_from_file(runtime.model.encode(), loading)
        if not model:
            raise RuntimeError("the model cannot be loaded")
        params = low.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = setup.cells, runtime.num_batch, runtime.num_ubatch
        params.n_seq_max, params.kv_unified = setup.streams, True
        params.n_threads, params.n_threads_batch = runtime.threads, runtime.threads_batch
        kinds = (low.LLAMA_FLASH_ATTN_TYPE_DISABLED, low.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        params.flash_attn_type = kinds[runtime.flash_attn]
        context = low.llama_init_from_model(model, params)
        if not context:
            raise RuntimeError(f"there is no room for a context of {setup.cells:,} cells")
        return context

    def _stand_on(self, hot: tuple[int, ...]) -> None:
        """Let the first sequence hold these tokens and nothing else, and the others nothing."""
        at = common(self._stands, hot)
        best = max(self._states, key=lambda ids: common(ids, hot), default=())
        if common(best, hot) > at:
            self._cut(0)
            self._load(self._states[best])
            self._states.move_to_end(best)
            at = common(best, hot)
        self._cut(at)
        if at < len(hot):
            self._decode([(0, at, hot[at:])])
        self._stands = hot
        if len(hot) - at >= WORTH_KEEPING:
            self._keep(hot)

    def _cut(self, end: int) -> None:
        low, memory = self._low, self._memory
        for stream in range(1, self._streams):
            low.llama_memory_seq_rm(memory, stream, -1, -1)
        low.llama_memory_seq_rm(memory, 0, end, -1)

    def _keep(self, ids: tuple[int, ...]) -> None:
        if not self._kept:
            return
        self._states[ids] = self._state()
        while len(self._states) > self._kept:
            self._states.popitem(last=False)

    def _saved(self, ids: tuple[int, ...]) -> Any:
        if ids not in self._states:
            self._keep(ids)
        return self._states[ids] if ids in self._states else self._state()

    def _state(self) -> Any:
        size = int(self._low.llama_state_seq_get_size(self._context, 0))
        state = (ctypes.c_uint8 * size)()
        if int(self._low.llama_state_seq_get_data(self._context, state, size, 0)) != size:
            raise RuntimeError("the state cannot be saved")
        return state

    def _load(self, state: Any) -> None:
        if not self._low.llama_state_seq_set_data(self._context, state, len(state), 0):
            raise RuntimeError("the state cannot be restored")

    def _decode(self, runs: Sequence[tuple[int, int, Sequence[int]]]) -> list[int]:
        """Compute runs of (sequence, position, tokens), and sample after the last token of each."""
        batch, at, rows, sampled = self._batch, 0, list[int](), list[int]()
        for sequence, position, tokens in runs:
            last = len(tokens) - 1
            for offset, token in enumerate(tokens):
                if at == self._step:
                    sampled += self._computed(at, rows)
                    at, rows = 0, []
                batch.token[at], batch.pos[at] = token, position + offset
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = offset == last
                at += 1
            rows.append(at - 1)
        return [*sampled, *self._computed(at, rows)]

    def _computed(self, size: int, rows: Sequence[int]) -> list[int]:
        """Compute the batch as it is filled, and sample at these rows of it."""
        self._batch.n_tokens = size
        if self._low.llama_decode(self._context, self._batch):
            raise RuntimeError("llama_decode failed")
        return [int(self._low.llama_sampler_sample(self._sampler, self._context, row)) for row in rows]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens the two share from the first."""
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return index
    return min(len(a), len(b))


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1e3
