"""What an engine tells the daemon. Any thread may tell something."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from sessiond.daemon.engine import wire


class Outbox:
    """Events on their way. What all jobs say between two batches goes out in one piece: the daemon wakes up once for
    it, and not once for each stream while the next batch wants the processor.
    """

    def __init__(self, channel: socket.socket, lost: Callable[[], None]) -> None:
        self._channel = channel
        self._lost = lost
        """Called when the daemon is gone."""
        self._lock = threading.Lock()
        self._kept = bytearray()

    def keep(self, event: wire.AnyEvent) -> None:
        """Tell this with whatever is told next, at the latest at the next `flush`."""
        data = wire.encode(event)
        with self._lock:
            self._kept += data

    def send(self, event: wire.AnyEvent) -> None:
        """Tell this now, after all that was kept."""
        self.keep(event)
        self.flush()

    def flush(self) -> None:
        """Tell what was kept."""
        with self._lock:
            data, self._kept = self._kept, bytearray()
            if not data:
                return
            try:
                self._channel.sendall(data)
            except OSError:
                self._lost()
