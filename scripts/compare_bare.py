"""The floor of a comparison: many streams over one prefix with nothing but `llama_decode` and a sampler.

It lives in a process of its own that sleeps while others work.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True, slots=True)
class Setup:
    """How the context is made: as the daemon made its own."""

    model: str
    cells: int
    num_batch: int
    num_ubatch: int
    threads: int
    threads_batch: int
    flash_attn: bool
    streams: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One run: all suffixes after the prefix, in one batch, then `answer` tokens of each stream."""

    prefix: Sequence[int]
    suffixes: Sequence[Sequence[int]]
    answer: int


@dataclass(slots=True)
class Run:
    """What it cost. Times are those of `time.perf_counter`, which is one clock for all processes of a machine."""

    first_ms: float = 0.0
    """Until every stream had its first token."""
    streams: list[list[tuple[float, int]]] = field(default_factory=list[list[tuple[float, int]]])


class Bare:
    """The loop's process."""

    def __init__(self, setup: Setup) -> None:
        start = multiprocessing.get_context("spawn")
        self._pipe, theirs = start.Pipe()
        self._process = start.Process(target=_serve, args=(setup, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen here

    def run(self, ask: Ask) -> Run:
        """Do it. A prefix that stands there already is not computed again. Raises RuntimeError if the process died."""
        try:
            self._pipe.send(ask)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("the bare loop died") from error
        assert isinstance(answer, Run)
        return answer

    def close(self) -> None:
        """Let it go."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _serve(setup: Setup, pipe: Connection) -> None:
    loop = _Loop(setup)
    while True:
        try:
            ask: Ask = pipe.recv()
        except EOFError:
            return
        pipe.send(loop.run(ask))


class _Loop:
    """One context with a sequence for each stream."""

    def __init__(self, setup: Setup) -> None:
        from llama_cpp import llama_cpp

        low: Any = llama_cpp  # its handles may be None by type; here they are not

        def say_nothing(_level: int, _text: bytes, _data: object) -> None:
            """llama.cpp's log is no part of the comparison."""

        self._silent = low.llama_log_callback(say_nothing)
        low.llama_log_set(self._silent, None)
        low.llama_backend_init()
        params = low.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = setup.cells, setup.num_batch, setup.num_ubatch
        params.n_seq_max, params.kv_unified = setup.streams, True
        params.n_threads, params.n_threads_batch = setup.threads, setup.threads_batch
        kinds = (low.LLAMA_FLASH_ATTN_TYPE_DISABLED, low.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        params.flash_attn_type = kinds[setup.flash_attn]
        model = low.llama_model_load_from_file(setup.model.encode(), low.llama_model_default_params())
        self._low = low
        self._context = low.llama_init_from_model(model, params)
        self._memory = low.llama_get_memory(self._context)
        self._sampler = low.llama_sampler_init_greedy()
        self._batch = low.llama_batch_init(setup.num_batch, 0, 1)
        self._step, self._streams = setup.num_batch, setup.streams
        self._prefix: list[int] = []

    def run(self, ask: Ask) -> Run:
        """See `Ask`."""
        self._stand_on(list(ask.prefix))
        begun = time.perf_counter()
        rows = self._decode([(stream, len(ask.prefix), ids) for stream, ids in enumerate(ask.suffixes)])
        tokens = [self._sample(row) for row in rows]
        first = time.perf_counter()
        run = Run((first - begun) * 1e3, [[(first, 1)] for _ in tokens])
        for step in range(ask.answer - 1):
            ends = [len(ask.prefix) + len(ids) + step for ids in ask.suffixes]
            rows = self._decode([(stream, ends[stream], [token]) for stream, token in enumerate(tokens)])
            tokens = [self._sample(row) for row in rows]
            now = time.perf_counter()
            for stamps in run.streams:
                stamps.append((now, 1))
        return run

    def _stand_on(self, prefix: list[int]) -> None:
        """Let every stream hold the prefix and nothing else."""
        low, memory = self._low, self._memory
        same = prefix == self._prefix
        for stream in range(self._streams):
            low.llama_memory_seq_rm(memory, stream, len(prefix) if same else -1, -1)
        if same:
            return
        for start in range(0, len(prefix), self._step):
            self._decode([(0, start, prefix[start : start + self._step])])
        for stream in range(1, self._streams):
            low.llama_memory_seq_cp(memory, 0, stream, 0, len(prefix))
        self._prefix = prefix

    def _decode(self, runs: Sequence[tuple[int, int, Sequence[int]]]) -> list[int]:
        """Compute runs of (sequence, position, tokens) in one batch; the row of each one's last token."""
        batch, at, rows = self._batch, 0, list[int]()
        for sequence, position, tokens in runs:
            for offset, token in enumerate(tokens):
                batch.token[at], batch.pos[at] = token, position + offset
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = offset == len(tokens) - 1
                at += 1
            rows.append(at - 1)
        batch.n_tokens = at
        if self._low.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        return rows

    def _sample(self, row: int) -> int:
        return int(self._low.llama_sampler_sample(self._sampler, self._context, row))
