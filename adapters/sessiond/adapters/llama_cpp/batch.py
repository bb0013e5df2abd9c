"""The arrays of one `llama_batch`, made once for a context and filled for each decode."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from sessiond.adapters.base import Run
from sessiond.adapters.llama_cpp.library import library


class Batch:
    """Room for `capacity` tokens. Every token belongs to exactly one sequence."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._sequence = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._counts = np.ones(capacity, np.int32)
        # llama_batch wants a pointer for each token's list of sequences: each points at one number here.
        base = self._sequence.ctypes.data
        self._pointers = np.arange(base, base + 4 * capacity, 4, dtype=np.uintp)
        self._native = self._describe()

    def _describe(self) -> Any:
        low = library()
        pointer_to: Any = ctypes.POINTER  # its types are not known before they are made

        def pointer(array: np.ndarray[Any, Any], kind: Any) -> Any:
            return ctypes.cast(array.ctypes.data, pointer_to(kind))

        return low.llama_batch(
            n_tokens=0,
            token=pointer(self._token, ctypes.c_int32),
            embd=None,
            pos=pointer(self._position, ctypes.c_int32),
            n_seq_id=pointer(self._counts, ctypes.c_int32),
            seq_id=pointer(self._pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=pointer(self._wanted, ctypes.c_int8),
        )

    def fill(self, runs: Sequence[Run]) -> tuple[Any, list[range]]:
        """The native batch, and for each run the rows whose logits it wants, the last one first. Valid until the next
        `fill`.
        """
        rows: list[range] = []
        start = 0
        for run in runs:
            end = start + len(run.tokens)
            self._token[start:end] = run.tokens
            self._position[start:end] = np.arange(run.position, run.position + len(run.tokens))
            self._sequence[start:end] = run.sequence
            self._wanted[start:end] = 0
            self._wanted[end - run.want_logits : end] = 1
            rows.append(range(end - 1, end - 1 - run.want_logits, -1))
            start = end
        self._native.n_tokens = start
        return self._native, rows

    def want_all(self) -> None:
        """Want something of every row, as pooling does."""
        self._wanted[: self._native.n_tokens] = 1

    def want_more(self, width: int, grain: int) -> None:
        """Want logits of further rows, so that in each micro-batch of `grain` rows those of none or of a multiple of
        `width` rows are computed. There must be as many rows.
        """
        for start in range(0, self._native.n_tokens, grain):
            wanted = self._wanted[start : min(start + grain, self._native.n_tokens)]
            missing = -int(wanted.sum()) % width
            wanted[np.flatnonzero(wanted == 0)[:missing]] = 1
