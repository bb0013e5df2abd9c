"""The disk tier, as the engine's loop sees it: no call but `flush` and `close` waits, and none raises.

Everything that touches the disk is done by two threads: one opens, writes, evicts and tidies, one reads. Until the folder
is open, and whenever it cannot be used, nothing is found and nothing is kept.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.engine.disk.catalogue import Entry, Found, Run
from sessiond.daemon.engine.disk.counts import Counts
from sessiond.daemon.engine.disk.folder import LOCK_PATIENCE_S, Unusable
from sessiond.daemon.engine.disk.keys import Chain, Space
from sessiond.daemon.engine.disk.reader import Reader
from sessiond.daemon.engine.disk.room import KEEP_FREE
from sessiond.daemon.engine.disk.sayings import Say, Sayings
from sessiond.daemon.engine.disk.store import Store
from sessiond.daemon.engine.disk.writer import Writer

QUEUE_BYTES = 256 << 20
"""KV that may wait to be written."""
LATE_S = 5.0
"""A read that takes longer hangs: until it is over nothing is found, since all else would wait behind it."""
RETRY_S = 60.0
"""How often it is tried to open a folder that could not be used."""
CLOSE_S = 5.0
"""A disk that hangs does not keep the engine from ending."""

Got = Callable[[bytes | None, float], None]
"""Hears the KV that was read, or None, and how many seconds that took. Called from the reader's thread: it must be short."""


@dataclass(frozen=True, slots=True)
class Facts:
    """How the tier stands."""

    state: str
    """"opening", "open" or "off"."""
    entries: int
    bytes: int
    """Of all files of entries."""
    limit: int
    waiting_bytes: int
    """KV that waits to be written."""
    counts: Counts


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class DiskTier:
    """One folder, within `limit` bytes. Opening begins at once, in the background."""

    def __init__(
        self,
        folder: Path,
        limit: int,
        say: Say = _to_stderr,
        *,
        keep_free: int = KEEP_FREE,
        queue_bytes: int = QUEUE_BYTES,
        retry_s: float = RETRY_S,
        patience_s: float = LOCK_PATIENCE_S,
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._keep_free = keep_free
        self._retry_s = retry_s
        self._patience_s = patience_s
        self._sayings = Sayings(say)
        self._counts = Counts()
        self._pinned: frozenset[bytes] = frozenset()
        self._store: Store | None = None
        self._closed = threading.Event()
        self._tried: float | None = None
        """When opening was last tried to the end."""
        self._opened = threading.Event()
        self._writer = Writer(
            # More than the budget need not wait: it would be evicted as soon as it is written.
            min(queue_bytes, limit),
            put=self._put,
            dropped=self._drop,
            chores=self._chores,
            failed=self._failed,
        )
        self._reader = Reader()
        self._reading: dict[object, float] = {}
        """When each read that is not over began, by `time.monotonic`; never, if others have to be read before it."""
        self._writer.call(self._open)
        self._writer.start()
        self._reader.start()

    # What stands.

    @property
    def is_open(self) -> bool:
        """Whether entries can be found."""
        return self._store is not None

    def wait_open(self, seconds: float) -> bool:
        """Wait until the first try to open is over. Whether entries can be found."""
        self._opened.wait(seconds)
        return self.is_open

    def ahead(self, space: Space, tokens: Sequence[int], at: int) -> list[Found]:
        """The entries on the way of these tokens that go on behind `at`, rising; the first may begin before it. Between them
        there may be gaps: these tokens have to be computed, and the rest can be brought back behind them.
        """
        store, chain = self._store, self._chain(space, tokens)
        if store is None or chain is None or self._is_late():
            return []
        return store.catalogue.ahead(chain, at)

    def missing(self, space: Space, tokens: Sequence[int]) -> list[Run]:
        """What of these tokens should be saved and given to `put`, rising: nothing that is on the disk or on its way."""
        store, chain = self._store, self._chain(space, tokens)
        if store is None or chain is None or not store.writable:
            return []
        return store.catalogue.missing(chain, len(tokens))

    def edge(self, space: Space, tokens: Sequence[int], start: int) -> Run | None:
        """The run of these tokens from `start` on as one entry, for KV that can only be had whole. None unless the disk
        has all that stands before it, and nothing of it.
        """
        store, chain = self._store, self._chain(space, tokens)
        if store is None or chain is None or not store.writable:
            return None
        return store.catalogue.edge(chain, start)

    def facts(self) -> Facts:
        """How it stands."""
        store = self._store
        state = "open" if store is not None else "off" if self._opened.is_set() else "opening"
        entries, size = (len(store.catalogue), store.catalogue.size) if store is not None else (0, 0)
        return Facts(state, entries, size, self._limit, self._writer.waiting_bytes, self._counts)

    # What moves.

    @property
    def largest(self) -> int:
        """Bytes of KV that one run may have."""
        return self._writer.limit

    def has_room_for(self, size: int) -> bool:
        """Whether so much more KV can wait to be written without anything being dropped for it."""
        return self._store is not None and self._writer.waiting_bytes + size <= self._writer.limit

    def put(self, run: Run, payload: bytes) -> bool:
        """Have KV written in the background. False if it is dropped at once."""
        store = self._store
        if store is None:
            return False
        if store.catalogue.holds(run.label.name):
            return True
        entry = store.catalogue.reserve(run)
        return entry is not None and self._writer.offer(run, entry, payload)

    def fetch(self, found: Found, got: Got) -> None:
        """Read an entry in the background. `got` hears the KV of all of its tokens, also those that do not match; None if
        there is a fault: then it is not found again. After `close` it hears None at once.
        """
        reading = object()
        self._reading[reading] = math.inf

        def read() -> None:
            began = self._reading[reading] = time.monotonic()
            try:
                payload = self._get(found)
            finally:
                del self._reading[reading]
            self._tell(got, payload, time.monotonic() - began)

        if not self._reader.call(read):
            read()

    @property
    def reads(self) -> int:
        """How many reads were asked for and are not over."""
        return len(self._reading)

    def _is_late(self) -> bool:
        late = time.monotonic() - min(list(self._reading.values()), default=math.inf) > LATE_S
        if late:
            self._sayings.say(
                "late", f"reading an entry takes longer than {LATE_S:.0f} s: off until it is over"
            )
        return late

    def begin_use(self, found: Found) -> None:
        """A backend is about to be given what was read. `end_use` must follow, once it has loaded it and computed on."""
        if (store := self._store) is not None:
            store.begin_use(found.entry.label.name)

    def end_use(self, found: Found, fault: str = "") -> None:
        """The backend survived. With a `fault` it refused: then the entry is set aside."""
        store, name = self._store, found.entry.label.name
        if store is None:
            return
        store.end_use(name)
        if fault:
            store.catalogue.block(name)
            self._writer.call(lambda: store.set_aside(name, fault))

    def pin(self, spaces: Collection[Space]) -> None:
        """These spaces, and no others, are evicted last and written first."""
        self._pinned = frozenset(space.salt for space in spaces)
        self._writer.pinned = self._pinned
        if (store := self._store) is not None:
            store.room.pinned = self._pinned

    def hold(self, held: bool) -> None:
        """Whether a turn runs: meanwhile next to nothing is written."""
        self._writer.hold(held)

    # The end.

    def flush(self, seconds: float) -> bool:
        """Write all that waits. Whether that was done within the time."""
        return self._writer.flush(seconds)

    def close(self, seconds: float = CLOSE_S) -> None:
        """End the threads and let go of the folder. What still waits is dropped, and who waits for a read hears None."""
        self._closed.set()
        until = time.monotonic() + seconds
        over = [thread.stop(max(0.0, until - time.monotonic())) for thread in (self._writer, self._reader)]
        store, self._store = self._store, None
        if store is not None and all(over):
            store.close()

    # In the threads.

    def _open(self) -> None:
        try:
            if self._closed.is_set():
                return
            store = self._store = Store(
                self._folder,
                self._limit,
                self._sayings,
                keep_free=self._keep_free,
                counts=self._counts,
                patience_s=self._patience_s,
            )
            store.room.pinned = self._pinned
            if self._closed.is_set():  # nobody may be left to close it
                self._store = None
                store.close()
        except Unusable as unusable:
            self._sayings.say("unusable", f"off for now: {unusable}")
        finally:
            self._tried = time.monotonic()
            self._opened.set()

    def _chores(self) -> None:
        store = self._store
        if store is not None and not store.lost:
            store.tidy()
            return
        if store is not None:
            self._sayings.say("lost", f"{self._folder} is gone: off for now")
            self._store = None
            store.close()
        if self._tried is not None and time.monotonic() - self._tried >= self._retry_s:
            self._open()

    def _put(self, run: Run, payload: bytes) -> None:
        if (store := self._store) is not None:
            store.put(run, payload)
            if store.lost:
                self._chores()

    def _failed(self, error: Exception) -> None:
        self._sayings.say("failed", f"a fault of its own: {error!r}")

    def _drop(self, entry: Entry) -> None:
        self._counts.dropped += 1
        if (store := self._store) is not None:
            store.catalogue.remove(entry)

    def _get(self, found: Found) -> bytes | None:
        try:
            if not self._closed.is_set() and (store := self._store) is not None:
                return store.get(found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a miss, and the next one is read
            self._failed(error)
        return None

    def _tell(self, got: Got, payload: bytes | None, seconds: float) -> None:
        try:
            got(payload, seconds)
        except Exception as error:  # noqa: BLE001 - the fault of one who waits is not that of who comes later
            self._failed(error)

    def _chain(self, space: Space, tokens: Sequence[int]) -> Chain | None:
        try:
            return Chain(space, tokens)
        except ValueError as error:
            self._sayings.say("odd", f"nothing is kept of these tokens: {error}")
            return None
