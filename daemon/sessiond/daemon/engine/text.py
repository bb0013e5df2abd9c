"""Tokens of an answer to text: whole characters only, and nothing of a stop text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextAssembler:
    """Takes the bytes of tokens, gives back text that may be sent. One for each answer."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped_by: str | None = None
        """The stop text that came, if one did."""

    def feed(self, piece: bytes) -> str:
        """What may be sent now. A split character waits for its rest, and so does what may begin a stop text."""
        self._held += self._decoder.decode(piece)
        return self._release()

    def finish(self) -> str:
        """What is left when the answer ends; bytes that never became a character stand as U+FFFD."""
        if self.stopped_by is not None:
            return ""
        self._held += self._decoder.decode(b"", final=True)
        text = self._release()
        if self.stopped_by is None:
            text, self._held = text + self._held, ""
        return text

    def _release(self) -> str:
        # The one that is complete first, so that it does not matter how the text was cut into tokens.
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, at, self.stopped_by = min(found)
            text, self._held = self._held[:at], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
