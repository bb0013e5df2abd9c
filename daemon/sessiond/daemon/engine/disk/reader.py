"""What reads entries, in a thread of its own, one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Act = Callable[[], None]


class Reader:
    """What is asked for is read in the order of asking."""

    def __init__(self) -> None:
        self._acts: queue.SimpleQueue[Act | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="disk reader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def call(self, act: Act) -> bool:
        """Have something read. Returns at once: no after the end."""
        with self._lock:
            if not self._stopped:
                self._acts.put(act)
            return not self._stopped

    def stop(self, seconds: float) -> bool:
        """End the thread after what was asked for. Whether that was done within the time."""
        with self._lock:
            self._stopped = True
            self._acts.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (act := self._acts.get()) is not None:
            act()
