"""What writes entries, in a thread of its own: whoever has something to write never waits for a disk.

The most useful goes first: of a pinned space, then what was asked for again while it waited, then the youngest, and of one
way what comes first in it, since the rest is of no use without it. What is least useful is dropped where more is to be
written than may wait. An entry's age is that of its last use also while it waits: else what is asked for all the time would
stay behind whatever is new and needed once, on a disk that is slower than the engine.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sessiond.daemon.engine.disk.catalogue import Entry, Run

HELD_PAUSE_S = 5.0
"""While a turn runs, an entry is written so often at most: hashing 6 MB takes 5 ms of a core, and llama.cpp slows when it
has to share one. None at all would lose everything of an engine that is never idle."""
CHORES_S = 10.0
"""How often there is a look at what else is to be done."""

Act = Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Item:
    run: Run
    entry: Entry
    payload: bytes


class Writer:
    """`put` writes an entry, `dropped` hears of what is never tried, `failed` of what should not happen. All but `dropped`
    are called from the thread, that one from the thread of whoever offers. `limit` is as below.
    """

    def __init__(
        self,
        limit: int,
        *,
        put: Callable[[Run, bytes], object],
        dropped: Callable[[Entry], None],
        chores: Act,
        failed: Callable[[Exception], None],
    ) -> None:
        self._put = put
        self._dropped = dropped
        self._chores = chores
        self._failed = failed
        self.limit = limit
        """Bytes of KV that may wait."""
        self._lock = threading.Condition()
        self._items: dict[str, _Item] = {}
        self._acts: deque[Act] = deque()
        self._bytes = 0
        self._busy = False
        self._held = False
        self._flushing = 0
        self._stopped = False
        self._wrote = -math.inf
        """When an entry was last written."""
        self.pinned: frozenset[bytes] = frozenset()
        self._thread = threading.Thread(target=self._work, name="disk writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    # From any thread, at once.

    def offer(self, run: Run, entry: Entry, payload: bytes) -> bool:
        """Have the entry of a run written. No if it was dropped at once."""
        name, dropped = run.label.name, list[Entry]()
        with self._lock:
            if self._stopped or len(payload) > self.limit:
                dropped.append(entry)
            else:
                waiting = self._items.pop(name, None)
                self._items[name] = _Item(run, entry, payload)
                self._bytes += len(payload) - (len(waiting.payload) if waiting is not None else 0)
                while self._bytes > self.limit:
                    dropped.append(self._take(max).entry)
                self._lock.notify_all()
        for each in dropped:
            self._dropped(each)
        return entry not in dropped

    def call(self, act: Act) -> None:
        """Have something short done, before what is to be written."""
        with self._lock:
            self._acts.append(act)
            self._lock.notify_all()

    def hold(self, held: bool) -> None:
        """Whether a turn runs that nothing may disturb."""
        with self._lock:
            self._held = held
            self._lock.notify_all()

    @property
    def waiting_bytes(self) -> int:
        """Of KV that waits to be written."""
        return self._bytes

    # From any thread, waiting.

    def flush(self, seconds: float) -> bool:
        """Write all that waits, held or not. Whether that was done within the time."""
        with self._lock:
            self._flushing += 1
            self._lock.notify_all()
            done = self._lock.wait_for(lambda: not (self._items or self._acts or self._busy), seconds)
            self._flushing -= 1
        return done

    def stop(self, seconds: float) -> bool:
        """End the thread after what it is about now and what was called for. Whether that was done within the time."""
        with self._lock:
            self._stopped = True
            self._items.clear()
            self._bytes = 0
            self._lock.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # In the thread.

    def _work(self) -> None:
        while True:
            act = self._next()
            if act is None:
                return
            try:
                act()
            except Exception as error:  # noqa: BLE001 - one fault must not end the thread that all others need
                self._failed(error)
            finally:
                with self._lock:
                    self._busy = False
                    self._lock.notify_all()

    def _next(self) -> Act | None:
        """What is to be done now; None at the end."""
        with self._lock:
            self._lock.wait_for(lambda: self._stopped or self._acts or self._may_write(), self._pause())
            if self._stopped and not self._acts:
                return None
            self._busy = True
            if self._acts:
                return self._acts.popleft()
            if self._may_write():
                item = self._take(min)
                self._wrote = time.monotonic()
                return lambda: self._write(item)
            return self._chores

    def _write(self, item: _Item) -> None:
        self._put(item.run, item.payload)

    def _may_write(self) -> bool:
        return bool(self._items) and (not self._held or self._flushing > 0 or self._until_next() <= 0)

    def _until_next(self) -> float:
        return self._wrote + HELD_PAUSE_S - time.monotonic()

    def _pause(self) -> float:
        return max(0.01, min(CHORES_S, self._until_next())) if self._items else CHORES_S

    def _take(self, which: Callable[..., _Item]) -> _Item:
        """`min` is the most useful, `max` the least."""
        item = which(self._items.values(), key=self._rank)
        del self._items[item.run.label.name]
        self._bytes -= len(item.payload)
        return item

    def _rank(self, item: _Item) -> tuple[bool, bool, int, int]:
        run, used = item.run, item.entry.used
        return (run.label.salt not in self.pinned, used == run.stamp, -used, run.start)
