"""Vectors of texts, for models that were made for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Turns texts into vectors, one at a time. Valid until `close` or until its model is closed. It belongs to one thread, but
    for `tokens`, `abort` and `clear_abort`, which any thread may call at any time.
    """

    @property
    def window(self) -> int:
        """Tokens that one text may have."""
        ...

    @property
    def pooling(self) -> str:
        """How the vectors of a text's tokens become one: "mean", "cls" or "last"."""
        ...

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with those that the model was trained to see around it. Names of special tokens are text."""
        ...

    def embed(self, tokens: Sequence[int]) -> bytes:
        """Their vector, native float32, as long as the model makes it. The same tokens have the same vector, bit for bit,
        whatever came before.

        Raises Aborted, and BackendError for no tokens, more than the window holds, or unknown ones.
        """
        ...

    def rest(self) -> None:
        """Give back what can be made again: `embed` makes it when it is needed."""
        ...

    def abort(self) -> None:
        """Make a running or the next `embed` stop soon. Any thread."""
        ...

    def clear_abort(self) -> None:
        """Let `embed` run again. Any thread."""
        ...

    def close(self) -> None:
        """Give everything back. Twice is once."""
        ...
