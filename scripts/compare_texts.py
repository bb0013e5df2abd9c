"""The work that all sides of a comparison are given: texts of this repository, cut to exact numbers of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessiond.client import Client
from speed import text_of

_LAP = 1009
"""Where a further reading of the sources begins, in characters: not where the one before it began."""

_ENDS = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<end_of_turn>", "</s>")
"""How models of today write the end of an answer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A text and its tokens."""

    text: str
    ids: tuple[int, ...]


class Texts:
    """Texts that have not been used in this run yet."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._at = 0
        self._laps = 0
        self.end_tokens = _end_tokens(client)
        """Tokens that end an answer. Streams that are timed must not come to one."""

    def take(self, tokens: int) -> Piece:
        """The next text of exactly so many tokens. Raises RuntimeError if the sources are too short for it."""
        try:
            text, ids = text_of(self._client, tokens, self._at)
        except RuntimeError:
            if not self._at:
                raise
            self._laps += 1
            self._at = self._laps * _LAP
            text, ids = text_of(self._client, tokens, self._at)
        self._at += len(text)
        return Piece(text, tuple(ids))

    def several(self, number: int, tokens: int) -> list[Piece]:
        """So many texts of so many tokens each."""
        return [self.take(tokens) for _ in range(number)]


def joined(pieces: Sequence[Piece]) -> list[int]:
    """The tokens of pieces that are tokenized each on its own, as the daemon does it with segments."""
    return [token for piece in pieces for token in piece.ids]


def _end_tokens(client: Client) -> tuple[int, ...]:
    found = [list(client.tokenize(text, parse_special=True).token_ids) for text in _ENDS]
    return tuple(ids[0] for ids in found if len(ids) == 1)
