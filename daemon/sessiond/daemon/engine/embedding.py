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
    normalize: bool
    unread: deque[str]
    read: deque[array[int]] = field(default_factory=deque["array[int]"])
    """Tokens of texts that have no vector yet: as C ints, which take a ninth of what Python's do."""
    sizes: list[int] = field(default_factory=list[int])
    """Tokens of each text that was read."""
    fits: bool = True
    """Whether all of them have tokens, and no more than the window takes. Else nothing is computed, and no tokens are kept."""
    vectors: list[bytes] = field(default_factory=list[bytes])
    cancelled: bool = False


class Embedding:
    """See the module. `call` runs an act in the loop's thread before its next batch, and `aside` in the side thread after all
    that waits there; `done` and `failed` hear how a command ended, in one of these.
    """

    def __init__(
        self,
        model: Model,
        call: Callable[[Callable[[], None]], None],
        aside: Callable[[Callable[[], None]], object],
        done: Callable[[int, wire.Answer], None],
        failed: Callable[[int, BaseException], None],
    ) -> None:
        self._model = model
        self._call = call
        self._aside = aside
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
        """A command came: its texts are read soon, and it can be cancelled from now on."""
        order = _Order(command.id, command.normalize, deque(command.texts))
        self._known[command.id] = order
        self._aside(lambda: self._read(order))

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

    def _read(self, order: _Order) -> None:
        """Read the next text; then all others who want tokens or frames have their turn. What does not fit is told in the end,
        and nothing is computed then.
        """
        try:
            embedder = self._embedder = self._embedder or self._model.new_embedder()
            if order.cancelled:
                raise Cancelled
            if order.unread:
                _take_in(order, embedder.tokens(order.unread.popleft()), embedder.window)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._end(order, error)
            return
        if order.unread:
            self._aside(lambda: self._read(order))
        elif order.fits:
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
            if order.read:
                vector = self._vector(order, order.read.popleft())
                order.vectors.append(_scaled(vector) if order.normalize else vector)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._end(order, error)
        else:
            if order.read:
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
        self._done(order.id, wire.Embedded(order.vectors, order.sizes, embedder.window, embedder.pooling))

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


def _take_in(order: _Order, tokens: Sequence[int], window: int) -> None:
    order.sizes.append(len(tokens))
    order.fits = order.fits and 0 < len(tokens) <= window
    if order.fits:
        order.read.append(array("i", tokens))
    else:
        order.read.clear()


def _scaled(vector: bytes) -> bytes:
    """Native float32, scaled to the length 1; one of zeros as it is."""
    values = array("f", vector)
    length = math.sqrt(math.fsum(value * value for value in values))
    return array("f", [value / length for value in values]).tobytes() if length else vector
