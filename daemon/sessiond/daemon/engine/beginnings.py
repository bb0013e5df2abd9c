"""The logits at which the last answers began: who asks the same once more has its first token without a computation.

They are what was computed for exactly these tokens, as KV is. Without them the last token has to be computed again, since logits
live until the next decode only.
"""

from __future__ import annotations

from sessiond.adapters.base import Held

KEPT = 8
"""Answers. The logits of each take four bytes for each token of the vocabulary: 200 to 600 kB."""


class Beginnings:
    """Of one arena. Tokens are compared, never trusted to a hash."""

    def __init__(self) -> None:
        self._held: list[tuple[list[int], Held]] = []
        """The one used last comes last."""

    def keep(self, tokens: list[int], logits: bytes) -> None:
        """An answer begins after these tokens, with these logits."""
        others = [each for each in self._held if each[0] != tokens]
        self._held = [*others[1 - KEPT :], (tokens.copy(), Held((logits,)))]

    def find(self, tokens: list[int]) -> Held | None:
        """The logits after exactly these tokens."""
        for index, (known, held) in enumerate(self._held):
            if known == tokens:
                self._held.append(self._held.pop(index))
                return held
        return None

    def forget(self) -> None:
        """Something was not as it should be: there are none."""
        self._held.clear()
