"""Vectors of texts, made between the batches of the loop: one text at a time, so that answers go on meanwhile.

A text is computed by itself, whatever came with it: so its vector is always the same. What computes it is made at the first
text, and given back when none came for a while.
"""

from __future__ import annotations

import contextlib
import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import Aborted, Embedder, Model
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.loop import Cancelled

RESTS_AFTER_S = 60.0
"""Without a text for so long, it gives back what it computes with."""


@dataclass(eq=False, slots=True)
class _Order:
    """Texts of one command."""

    id: int
    texts: list[list[int]]
    normalize: bool
    vectors: list[bytes] = field(default_factory=list[bytes])
    cancelled: bool = False


class Embedding:
    """See the module. `call` runs an act in the loop's thread before its next batch; `done` and `failed` hear how a command
    ended, in the loop's thread or the caller's.
    """

    def __init__(
        self,
        model: Model,
        call: Callable[[Callable[[], None]], None],
        done: Callable[[int, wire.Answer], None],
        failed: Callable[[int, BaseException], None],
    ) -> None:
        self._model = model
        self._call = call
        self._done = done
        self._failed = failed
        self._embedder: Embedder | None = None
        self._orders: deque[_Order] = deque()
        self._known: dict[int, _Order] = {}
        """By command, from the reader's thread on."""
        self._running: _Order | None = None
        self._used = 0.0

    # In the reader's thread.

    def heard(self, command: wire.Embed) -> None:
        """A command came: it can be cancelled from now on."""
        self._known[command.id] = _Order(command.id, [], command.normalize)

    def cancel(self, command_id: int) -> None:
        """End a command soon, also inside a text. One that is over, or another's, is left alone."""
        order = self._known.get(command_id)
        if order is not None:
            order.cancelled = True
            embedder = self._embedder
            if order is self._running and embedder is not None:
                embedder.abort()

    def stop(self) -> None:
        """End all commands soon: the daemon is gone."""
        for command_id in list(self._known):
            self.cancel(command_id)

    # In the side thread.

    def begin(self, command: wire.Embed) -> None:
        """Read the texts. What does not fit is told, and nothing is computed then."""
        order = self._known[command.id]
        try:
            embedder = self._embedder = self._embedder or self._model.new_embedder()
            for text in command.texts:
                if order.cancelled:
                    raise Cancelled
                order.texts.append(embedder.tokens(text))
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._end(order, error)
            return
        if all(0 < len(tokens) <= embedder.window for tokens in order.texts):
            self._call(lambda: self._take(order))
        else:
            self._end(order, None)

    # In the loop's thread.

    def _take(self, order: _Order) -> None:
        self._orders.append(order)
        if len(self._orders) == 1:
            self._call(self._step)

    def _step(self) -> None:
        """The next text of the command that has waited longest; then all others have their turn."""
        order = self._orders.popleft()
        try:
            if len(order.vectors) < len(order.texts):
                vector = self._vector(order, order.texts[len(order.vectors)])
                order.vectors.append(_scaled(vector) if order.normalize else vector)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._end(order, error)
        else:
            if len(order.vectors) < len(order.texts):
                self._orders.append(order)
            else:
                self._end(order, None)
        if self._orders:
            self._call(self._step)

    def _vector(self, order: _Order, tokens: Sequence[int]) -> bytes:
        embedder = self._embedder
        assert embedder is not None
        self._used = time.monotonic()
        self._running = order
        try:
            while not order.cancelled:  # looked at after it is known whom `cancel` would abort
                embedder.clear_abort()
                with contextlib.suppress(Aborted):  # one that came too late was meant for another
                    return embedder.embed(tokens)
            raise Cancelled
        finally:
            self._running = None

    def _end(self, order: _Order, error: BaseException | None) -> None:
        self._known.pop(order.id, None)
        embedder = self._embedder
        if error is not None or embedder is None:
            self._failed(order.id, error or Cancelled())
            return
        sizes = [len(tokens) for tokens in order.texts]
        self._done(order.id, wire.Embedded(order.vectors, sizes, embedder.window, embedder.pooling))

    def idle(self) -> float | None:
        """Give back what was not used for a while. In how many seconds to come again, if that is needed."""
        if self._embedder is None or not self._used:
            return None
        left = self._used + RESTS_AFTER_S - time.monotonic()
        if left > 0:
            return left
        self._embedder.rest()
        self._used = 0.0
        return None


def _scaled(vector: bytes) -> bytes:
    """Native float32, scaled to the length 1; one of zeros as it is."""
    values = array("f", vector)
    length = math.sqrt(math.fsum(value * value for value in values))
    return array("f", [value / length for value in values]).tobytes() if length else vector
