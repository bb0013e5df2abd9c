"""Outlines by the content of their texts, so that a save parses one file and not all."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from sessiond.daemon.workspace.repo_map.definitions import Outline

MAX_BYTES = 64 * 1024 * 1024
"""About what all remembered outlines may take, in the whole process."""

# What Python needs for each, without the characters.
_DEFINITION_BYTES = 250
_NAME_BYTES = 120
_OUTLINE_BYTES = 1_000

_Key = tuple[str, bytes]


class Memory:
    """Outlines that were used lately, within a limit in bytes. Threads may share it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        """Bytes, about."""
        self._outlines: OrderedDict[_Key, Outline] = OrderedDict()
        self._lock = threading.Lock()

    def outline_of(self, language: str, source: bytes, parse: Callable[[str, bytes], Outline]) -> Outline:
        """The outline of a text in a language, made with `parse` if it is not known. What that raises goes through."""
        key = (language, hashlib.sha256(source).digest())
        with self._lock:
            known = self._outlines.get(key)
            if known is not None:
                self._outlines.move_to_end(key)
                return known
        # Parsed without the lock: two threads may do the same work, and neither waits for the other.
        made = parse(language, source)
        with self._lock:
            if key not in self._outlines:
                self._outlines[key] = made
                self.used += _size(made)
            while self.used > self.max_bytes:
                self.used -= _size(self._outlines.popitem(last=False)[1])
        return made


def _size(outline: Outline) -> int:
    """Bytes, about."""
    definitions = sum(len(d.name) + len(d.signature) + _DEFINITION_BYTES for d in outline.definitions)
    return _OUTLINE_BYTES + definitions + sum(len(name) + _NAME_BYTES for name in outline.references)


MEMORY = Memory(MAX_BYTES)
"""That of this process."""
