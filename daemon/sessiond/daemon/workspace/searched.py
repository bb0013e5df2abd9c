"""What a search for secrets found, by the hash of the content, so that a save searches one file and not all."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

MOST = 65_536
"""Contents that are remembered, in the whole process: more than a walk may find. Each takes about 200 bytes."""


class Searched:
    """The findings of late. Threads may share it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[bytes, str | None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def found_in(self, content: bytes, search: Callable[[], str | None]) -> str | None:
        """What `search` finds in this content; it is called if that is not known. What it raises goes through."""
        key = hashlib.sha256(content).digest()
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        # Searched without the lock: two threads may do the same work, and neither waits for the other.
        found = search()
        with self._lock:
            self._found[key] = found
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        return found


SEARCHED = Searched(MOST)
"""Those of this process."""
