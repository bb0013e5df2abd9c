"""Reads llama.cpp's bytes of a sequence, which may come from anywhere, without a step behind their end."""

from __future__ import annotations

import struct

from sessiond.adapters.base import BackendError


class Walk:
    """Reads numbers and blocks from the first byte on."""

    def __init__(self, state: bytes) -> None:
        self._state = memoryview(state)
        self._at = 0

    def take(self, size: int) -> memoryview:
        """The next bytes. Raises BackendError if there are fewer."""
        end = self._at + size
        if end > len(self._state):
            raise BackendError("the state ends too early")
        found = self._state[self._at : end]
        self._at = end
        return found

    def number(self, kind: str) -> int:
        """A number as `struct` names it. Raises BackendError."""
        form = struct.Struct(f"={kind}")
        return int(form.unpack(self.take(form.size))[0])

    def rows(self, count: int) -> int:
        """Skip a layer of one row for each cell; the bytes of a row."""
        self.number("i")  # its type
        size = self.number("Q")
        self.take(count * size)
        return size

    def columns(self, count: int) -> int:
        """Skip a layer that stands transposed; the bytes for each cell."""
        self.number("i")  # its type
        size = self.number("I") * self.number("I")
        self.take(count * size)
        return size

    def done(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._state)

    def finish(self) -> None:
        """Raises BackendError if something is left."""
        if not self.done():
            raise BackendError("the state goes on behind its end")
