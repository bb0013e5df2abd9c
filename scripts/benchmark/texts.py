"""The texts that all sides are given: of this repository, cut to exact numbers of tokens."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sessiond.client import Client

SOURCE = Path(__file__).resolve().parents[2]
"""The checkout."""

_LAP = 1009
"""Where a further reading of the sources begins, in characters: not where the one before it began."""
_WIDE = 8
"""Characters that a token has at most, in the mean over a text."""
_TRIES = 200
"""Tokens that a cut may have more than it has when it is tokenized anew."""
_LOOKED_THROUGH, _CANDIDATES = 4000, 100
"""Characters in which a text that begins otherwise is looked for, and tokens of it that are tried."""

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

    def take(self, tokens: int, unlike: Collection[int] = ()) -> Piece:
        """The next text of exactly so many tokens. It begins with none of `unlike`, if such a beginning is near. Raises
        RuntimeError if the sources are too short for it.
        """
        start = self._at
        try:
            return self._next(tokens, unlike)
        except RuntimeError:
            if not start:
                raise
            self._laps += 1
            self._at = self._laps * _LAP
            return self._next(tokens, unlike)

    def several(self, number: int, tokens: int) -> list[Piece]:
        """So many texts of so many tokens each."""
        return [self.take(tokens) for _ in range(number)]

    def _next(self, tokens: int, unlike: Collection[int]) -> Piece:
        text, ids = text_of(self._client, tokens, self._at)
        if ids[0] in unlike:
            for start in self._beginnings(unlike):
                other, found = text_of(self._client, tokens, start)
                # A text may begin with another token than it goes on with.
                if found[0] not in unlike:
                    self._at, text, ids = start, other, found
                    break
        self._at += len(text)
        return Piece(text, tuple(ids))

    def _beginnings(self, unlike: Collection[int]) -> Iterator[int]:
        """Places near, from which the sources go on with none of these tokens."""
        ahead = sources()[self._at : self._at + _LOOKED_THROUGH]
        ids = list(self._client.tokenize(ahead).token_ids)
        places = [place for place, token in enumerate(ids) if token not in unlike]
        for place in places[:_CANDIDATES]:
            head = self._client.detokenize(ids[:place])
            if ahead.startswith(head):  # else a token ends within a character
                yield self._at + len(head)


def joined(pieces: Sequence[Piece]) -> list[int]:
    """The tokens of pieces that are tokenized each on its own, as the daemon does it with segments."""
    return [token for piece in pieces for token in piece.ids]


@functools.cache
def sources() -> str:
    """What all texts are cut from: the same for a whole run, whatever happens to the files meanwhile."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(SOURCE.glob("daemon/**/*.py")))


def text_of(client: Client, tokens: int, start: int = 0) -> tuple[str, list[int]]:
    """A text from this repository that has exactly that many tokens, and these. Raises RuntimeError if there is none."""
    ids = list(client.tokenize(sources()[start : start + tokens * _WIDE]).token_ids)
    # Cut at a token after which the rest of the text tokenizes the same: try shorter ones until one holds.
    for size in range(tokens, tokens + _TRIES):
        cut = client.detokenize(ids[:size])
        again = list(client.tokenize(cut).token_ids)
        if len(again) == tokens:
            return cut, again
    raise RuntimeError("no text of that many tokens was found")


def _end_tokens(client: Client) -> tuple[int, ...]:
    found = [list(client.tokenize(text, parse_special=True).token_ids) for text in _ENDS]
    return tuple(ids[0] for ids in found if len(ids) == 1)
