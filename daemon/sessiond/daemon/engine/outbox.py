"""What an engine tells the daemon. Any thread may tell something."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable

from sessiond.daemon.engine import wire

TOGETHER_S = 0.03
"""For so long what nobody waits for by itself may wait for more: what answers say, how far jobs are. That is less than anybody
sees. Each time that daemon and client wake up they take a processor from the next batch; with a small model on two cores, once for
each token costs a tenth of its speed.
"""
MOST_TOGETHER = 64
"""Tokens of one answer that are told in one piece."""

BREATH_S = 0.003
"""For so long daemon and client have the processors to themselves after somebody was told what they wait for. Where the next batch
takes all of them at once, each step of that news on its way to the client waits for a tick of the scheduler. What a turn tells with
its first token takes daemon and client some 2.5 ms of work: with 1.5 ms a question of one token took 15.0 ms, and 13.4 to 13.8 with 3
(1,000 tokens, two cores).
"""


class Outbox:
    """Events on their way. What all jobs say between two batches goes out in one piece: the daemon wakes up once for
    it, and not once for each stream while the next batch wants the processor.
    """

    def __init__(
        self, channel: socket.socket, lost: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = channel
        self._lost = lost
        """Called when the daemon is gone."""
        self._clock = clock
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._pieces: dict[int, wire.Piece] = {}
        """Of answers, by command: what may wait for more. All of it comes after `_kept`."""
        self._due = math.inf
        """When all of it has waited long enough, by the clock."""
        self._is_news = False
        """Whether somebody waits for some of it."""
        self._flushed = 0.0
        self._heard = 0.0
        """When there was news last."""

    def keep(self, event: wire.AnyEvent) -> None:
        """Tell this, for which somebody waits, at the next `flush_due`."""
        self._put(event, -math.inf, is_news=True)

    def defer(self, event: wire.AnyEvent) -> None:
        """Tell this with whatever is told next, and at the first `flush_due` after TOGETHER_S."""
        self._put(event, self._clock() + TOGETHER_S, is_news=False)

    def send(self, event: wire.AnyEvent) -> None:
        """Tell this now, after all that was kept. It leaves no breath: it is what the daemon goes on from, and when it asks for more
        it has heard it.
        """
        self._put(event, -math.inf, is_news=False)
        self.flush()

    def add(self, piece: wire.Piece) -> None:
        """Tell this within TOGETHER_S of what was told last, and as one piece with what is added to it until then."""
        with self._lock:
            before = self._pieces.get(piece.id)
            if before is not None:
                piece = wire.Piece(
                    piece.id,
                    before.text + piece.text,
                    before.tokens + piece.tokens,
                    before.scores + piece.scores,
                )
            self._pieces[piece.id] = piece
            self._due = min(self._due, self._flushed + TOGETHER_S)
            if len(piece.tokens) >= MOST_TOGETHER:
                self._settle()
                self._due = -math.inf

    def flush_due(self) -> None:
        """Tell what there is, unless all of it may wait still."""
        if self._clock() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Tell all."""
        with self._lock:
            self._settle()
            data, self._kept, self._due = self._kept, bytearray(), math.inf
            is_news, self._is_news = self._is_news, False
            if not data:
                return
            self._flushed = self._clock()
            if is_news:
                self._heard = self._flushed
            try:
                self._channel.sendall(data)
            except OSError:
                self._lost()

    def breath(self) -> float:
        """For how many seconds those who were told news just now should have the processors still."""
        with self._lock:
            return max(0.0, self._heard + BREATH_S - self._clock())

    def _put(self, event: wire.AnyEvent, due: float, *, is_news: bool) -> None:
        data = wire.encode(event)
        with self._lock:
            self._settle()
            self._kept += data
            self._due = min(self._due, due)
            self._is_news |= is_news

    def _settle(self) -> None:
        """What waited for more waits no longer. Under the lock."""
        for piece in self._pieces.values():
            self._kept += wire.encode(piece)
        self._pieces.clear()
