"""The tokens of a vocabulary, and which of them a grammar allows.

Sorted by their bytes, tokens stand as in a trie walked depth first: what two neighbours have in common is read once, and
what begins as a refused one is passed over. A trie of dictionaries would take ten times the memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence

from sessiond.adapters.base.grammar.automaton import Automaton, State


class Pieces:
    """The tokens of a vocabulary by what they say. Of those without bytes none is allowed, but at the end the end tokens."""

    def __init__(self, pieces: Sequence[bytes], end_tokens: Collection[int]) -> None:
        self.end_tokens = frozenset(end_tokens)
        self._pieces = pieces
        ordered = sorted(
            (piece, token) for token, piece in enumerate(pieces) if piece and token not in self.end_tokens
        )
        self._sorted = [piece for piece, _ in ordered]
        self._tokens = [token for _, token in ordered]

    def after(self, automaton: Automaton, state: State, token: int) -> State | None:
        """The state after a token that is no end token; None where the grammar does not allow it."""
        piece = self._pieces[token] if 0 <= token < len(self._pieces) else b""
        return automaton.run(state, piece) if piece else None

    def allowed(self, automaton: Automaton, state: State) -> list[int]:
        """All tokens that the grammar allows."""
        found: list[int] = sorted(self.end_tokens) if state.may_end else []
        path = [state]  # the states along the bytes of the last piece
        before = b""
        at = 0
        while at < len(self._sorted):
            piece = self._sorted[at]
            del path[_common(before, piece) + 1 :]
            before = piece
            refused = _walk(automaton, path, piece)
            if refused is None:
                found.append(self._tokens[at])
                at += 1
            else:
                at = self._behind(piece[: refused + 1], at)
        return found

    def _behind(self, prefix: bytes, start: int) -> int:
        """The first piece, from `start` on, that does not begin so."""
        bare = prefix.rstrip(b"\xff")
        if not bare:
            return len(self._sorted)
        return bisect_left(self._sorted, bare[:-1] + bytes([bare[-1] + 1]), start)


def _walk(automaton: Automaton, path: list[State], piece: bytes) -> int | None:
    """Go on along a piece; the index of the byte that is refused, if one is."""
    for index in range(len(path) - 1, len(piece)):
        state = automaton.step(path[-1], piece[index])
        if state is None:
            return index
        path.append(state)
    return None


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    size = min(len(one), len(other))
    return next((index for index in range(size) if one[index] != other[index]), size)
