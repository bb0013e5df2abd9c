"""Vectors that are a pure function of the model and of a text's tokens."""

from __future__ import annotations

import hashlib
import struct
import threading
from array import array
from collections.abc import Sequence

from sessiond.adapters.base import Aborted, BackendError
from sessiond.adapters.scripted import vocab
from sessiond.adapters.scripted.script import Script

WIDTH = 16
"""Numbers of a vector."""
MOST_TOKENS = 2048


class ScriptedEmbedder:
    """See `sessiond.adapters.base.Embedder`. A text takes the time of a micro-batch."""

    pooling = "last"

    def __init__(self, root: bytes, window: int, script: Script) -> None:
        self.window = min(window, MOST_TOKENS)
        self._root = root
        self._script = script
        self._aborted = threading.Event()
        self._closed = False

    def tokens(self, text: str) -> list[int]:
        return vocab.tokenize(text, parse_special=False)

    def embed(self, tokens: Sequence[int]) -> bytes:
        if self._closed:
            raise BackendError("scripted: the embedder is closed")
        if not 0 < len(tokens) <= self.window:
            raise BackendError(f"scripted: a text has 1 to {self.window} tokens, not {len(tokens)}")
        vocab.check(tokens)
        self._script.decode()
        if not self._script.micro_batch(self._aborted):
            raise Aborted("scripted: aborted")
        told = self._root + struct.pack(f"<{len(tokens)}i", *tokens)
        drawn = struct.unpack(f"<{WIDTH}h", hashlib.shake_128(told).digest(2 * WIDTH))
        return array("f", (number / 2**15 for number in drawn)).tobytes()

    def rest(self) -> None:
        """There is nothing to give back."""

    def abort(self) -> None:
        self._aborted.set()

    def clear_abort(self) -> None:
        self._aborted.clear()

    def close(self) -> None:
        self._closed = True
