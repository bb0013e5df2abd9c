"""The sequences of a native context: what they hold, and how cells go from one to another.

Nothing here is checked: llama.cpp asserts on a sequence that it does not know, and an assertion ends the process.
"""

from __future__ import annotations

import ctypes
from typing import Any

from sessiond.adapters.base import BackendError, NoRoom
from sessiond.adapters.llama_cpp.library import forget_log, last_words, library

_PARTIAL = 1
"""`LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY`: only what cannot be cut, which is a sliding window or a recurrent state."""


class Sequences:
    """The memory of one native context. Valid as long as that."""

    def __init__(self, native: Any) -> None:
        self._low = library()
        self._native = native
        self._memory = self._low.llama_get_memory(native)

    @property
    def exist(self) -> bool:
        """Whether the model has a memory at all."""
        return bool(self._memory)

    def end(self, sequence: int) -> int:
        """The position behind the last one that it holds."""
        return int(self._low.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def first(self, sequence: int) -> int:
        """The first position of which all is held: above 0 where a window or a state forgot what came before."""
        return int(self._low.llama_memory_seq_pos_min(self._memory, sequence))

    def remove(self, sequence: int, start: int = 0) -> None:
        """Let go of all positions from `start` on. Above 0 only where the memory can be cut."""
        self._low.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Let the target hold what the source holds from `start` to `end`. A recurrent state goes along as it is."""
        self._low.llama_memory_seq_cp(self._memory, source, target, start, end)

    def save(self, sequence: int, *, partial: bool = False) -> bytes:
        """Its state as bytes."""
        flags = _PARTIAL if partial else 0
        forget_log()
        size = self._low.llama_state_seq_get_size_ext(self._native, sequence, flags)
        state = _unwritten(size)
        written = self._low.llama_state_seq_get_data_ext(self._native, _at(state), size, sequence, flags)
        if not written:
            raise BackendError(f"sequence {sequence} could not be saved: {last_words()}")
        return state if written == size else state[:written]

    def load(self, sequence: int, state: bytes, *, partial: bool = False) -> None:
        """Replace what it holds, or the part of it that cannot be cut. Raises NoRoom or BackendError, and then it
        holds neither the one nor the other.
        """
        flags = _PARTIAL if partial else 0
        forget_log()
        read = self._low.llama_state_seq_set_data_ext(self._native, _at(state), len(state), sequence, flags)
        if read == len(state):
            return
        words = last_words()
        # Which of the two it was, llama.cpp says in words only.
        if "available cells" in words:
            raise NoRoom(f"no cells for the state: {words}")
        raise BackendError(f"the state could not be loaded: {words}")


# States are large, and memory that is touched for the first time costs more than the copy into it. So none is made beside
# the bytes themselves.


def _unwritten(size: int) -> bytes:
    """Bytes for C to write before anybody else knows of them."""
    state: bytes = _new_bytes(None, size)
    return state


def _at(state: bytes) -> Any:
    """Where they begin, for C; they have to be kept as long as it is used."""
    return ctypes.cast(ctypes.c_char_p(state), _BYTE_POINTER)


_pointer_to: Any = ctypes.POINTER  # its types are not known before they are made
_BYTE_POINTER = _pointer_to(ctypes.c_uint8)
_new_bytes: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
