"""Sequences whose cells stand in the order of their positions, whatever was dropped before.

Attention adds up cell by cell. If a drop leaves a hole and the next tokens of a longer sequence go into it, that
sequence is summed in another order, and its logits are rounded otherwise. llama.cpp fills holes: it puts tokens
into the first free cells behind the last ones it wrote or freed.

So there are no holes here. What is given up goes to a sequence of its own, the waste, and is not free. New tokens
come behind all others, and no sequence ever gets a token behind cells of its own later positions. Once the cells
are full, the waste is swept out: the rest is saved and loaded whole, which closes the gaps and keeps the order. That
costs a copy of all that is in use, each time that as many tokens were given up as there was room left.
"""

from __future__ import annotations

import ctypes
from typing import Any

from sessiond.adapters.base import BackendError, NoRoom
from sessiond.adapters.llama_cpp.library import forget_log, last_words
from sessiond.adapters.llama_cpp.sequences import Sequences


class OrderedSequences(Sequences):
    """See the module. For memory that is made of cells alone."""

    def __init__(self, native: Any, scratch: int, waste: int) -> None:
        super().__init__(native)
        self._scratch = scratch
        self._waste = waste

    def remove(self, sequence: int, start: int = 0) -> None:
        """Let go of positions. What only the scratch sequence holds is the last that was written: it is freed."""
        if sequence != self._scratch:
            self.copy(sequence, self._waste, start)
        super().remove(sequence, start)

    def load(self, sequence: int, state: bytes, *, partial: bool = False) -> None:
        """The same, after a sweep if there is no room without."""
        try:
            super().load(sequence, state, partial=partial)
        except NoRoom:
            if not self.sweep():
                raise
            super().load(sequence, state, partial=partial)

    def sweep(self) -> bool:
        """Free all that was given up. False if that is nothing."""
        if not self.end(self._waste):
            return False
        super().remove(self._waste)
        low, native = self._low, self._native
        forget_log()
        size = low.llama_state_get_size(native)
        buffer = (ctypes.c_uint8 * size)()
        written = low.llama_state_get_data(native, buffer, size)
        if not written or low.llama_state_set_data(native, buffer, written) != written:
            raise BackendError(f"the cells in use could not be moved: {last_words()}")
        return True
