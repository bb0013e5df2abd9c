"""What followed the last time that a text came to what it ends with now: its own past as a guess at its future. Pure.

An edit says again most of what it edits, and an answer quotes what it was asked about. The longest end that stood there
before decides; of several such places, one in a text that the question names, and else the latest.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

SHORTEST = 2
"""Tokens that have to agree for a place to count."""
LONGEST = 32
"""Tokens that are looked for at most: more tell nothing more apart."""
_SIZE = array("i").itemsize


class Recall:
    """Over a text that grows. A search is one over its bytes, which is done only where the last guess was wrong."""

    def __init__(self, tokens: Sequence[int], named: Sequence[tuple[int, int]] = ()) -> None:
        self._bytes = bytearray(array("i", tokens).tobytes())
        self._named = [(start, min(end, len(tokens))) for start, end in named if 0 <= start < end]
        self._at = 0
        self.length = 0
        """How many tokens before the end agree with those before the place; 0 if there is none."""
        self._search()

    def __len__(self) -> int:
        """Tokens of the text."""
        return len(self._bytes) // _SIZE

    def following(self, most: int) -> list[int]:
        """What came next at that place: at most so many tokens, none if there is no such place."""
        if not self.length:
            return []
        found = array("i")
        found.frombytes(self._bytes[self._at * _SIZE : (self._at + most) * _SIZE])
        return found.tolist()

    def add(self, token: int) -> None:
        """The text goes on with this."""
        was_right = self.following(1) == [token]
        self._bytes += array("i", [token]).tobytes()
        if was_right:
            self._at += 1
            self.length += 1
        else:
            self._search()

    def _search(self) -> None:
        """Find the longest end of the text that stood in it before: what a longer one matches, a shorter one matches too, so
        the length is found by halving.
        """
        self.length, low, high = 0, SHORTEST, min(LONGEST, len(self) - 1)
        size = low
        while low <= high:
            if (at := self._before(size)) is None:
                high = size - 1
            else:
                self._at, self.length, low = at, size, size + 1
            if not self.length:
                return
            size = (low + high + 1) // 2

    def _before(self, size: int) -> int | None:
        """The token behind the place where the last `size` tokens stood before."""
        wanted = bytes(self._bytes[-size * _SIZE :])
        for start, end in self._named:
            if (at := self._last(wanted, start, end)) is not None:
                return at
        return self._last(wanted, 0, len(self) - 1)

    def _last(self, wanted: bytes, start: int, end: int) -> int | None:
        """Where the last occurrence ends that lies within these tokens, and has a token behind it."""
        until = min(end, len(self) - 1) * _SIZE
        while (found := self._bytes.rfind(wanted, start * _SIZE, until)) >= 0:
            if found % _SIZE == 0:
                return (found + len(wanted)) // _SIZE
            until = found + len(wanted) - 1
        return None
