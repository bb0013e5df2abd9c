"""The entries on disk: put, get, evict. Its methods wait for the disk, and belong to the tier's own threads.

Every fault is a miss and a line in the log. A damaged entry is removed; one whose use failed is set aside.
"""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.engine.disk.catalogue import Catalogue, Entry, Found, Run
from sessiond.daemon.engine.disk.folder import LOCK_PATIENCE_S, MAX_FILES, Filed, Folder, Unusable
from sessiond.daemon.engine.disk.format import Damaged, encode, read_header, read_payload
from sessiond.daemon.engine.disk.index import Index
from sessiond.daemon.engine.disk.marks import DEATHS, Marks
from sessiond.daemon.engine.disk.sayings import Sayings

ASIDE_MOST = 16
"""Entries that are kept aside, for who wants to find out. What was set aside is not written again while it is there."""
KEEP_FREE = 1 << 30
"""Bytes of the file system that are left to everybody else."""
PAUSE_S = 30.0
"""After a write that failed, none is tried for so long."""
EVICT_PARTS = 64
"""Of the limit, one part more than needed is freed at a time."""
_FAR = 1 << 62
"""Later than any time that an entry can have."""
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""What a write answers whose folder was removed."""


@dataclass(slots=True)
class Counts:
    """What happened since the process began."""

    kv_bytes: int = 0
    """KV that was taken in to be written, and was."""
    file_bytes: int = 0
    """Bytes of the files that were written for it, also of those that failed. Over `kv_bytes`: the amplification."""
    written: int = 0
    read: int = 0
    missed: int = 0
    """Entries that were to be read and could not be."""
    damaged: int = 0
    evicted: int = 0
    dropped: int = 0
    """Entries that were not written, since more was to be than could wait."""
    set_aside: int = 0


class Store:
    """One folder. Opening it cleans it, reads what is there and keeps it within `limit` bytes. Raises Unusable."""

    def __init__(
        self,
        path: Path,
        limit: int,
        sayings: Sayings,
        *,
        keep_free: int = KEEP_FREE,
        counts: Counts | None = None,
        patience_s: float = LOCK_PATIENCE_S,
    ) -> None:
        self.catalogue = Catalogue()
        self.counts = counts or Counts()
        self.pinned: frozenset[bytes] = frozenset()
        """The salts of the spaces that are evicted last."""
        self.lost = False
        """The folder is gone: nothing more can be written."""
        self._limit = limit
        self._keep_free = keep_free
        self._sayings = sayings
        self._paused_until = 0.0
        self._reading = threading.Lock()
        """Held while a file is read, so that the folder is not closed meanwhile."""
        self._closed = False
        self._folder = Folder(path, patience_s)
        self._index = Index(self._folder, sayings)
        try:
            self._marks = Marks(self._folder.open_marks())
            self._take_stock()
        except OSError as error:
            self._index.close()
            self._folder.close()
            raise Unusable(f"{path}: {error.strerror or error}") from error

    @property
    def writable(self) -> bool:
        """Whether it is worth trying to write."""
        return not (self.lost or self._closed) and time.monotonic() >= self._paused_until

    def close(self) -> None:
        """Write the index, let go of the folder. Twice is once."""
        with self._reading:
            if self._closed:
                return
            self._closed = True
            self.tidy()
            self._index.close()
            self._marks.close()
            self._folder.close()

    def tidy(self) -> None:
        """Bring the index up to date."""
        self._index.write(self.catalogue.take_changes())

    # Writing, in the writer's thread.

    def put(self, run: Run, payload: bytes) -> bool:
        """Write an entry for `run`, unless it is there. Whether it is there now; if not, it is forgotten."""
        entry = self.catalogue.reserve(run)
        if entry is None or entry.filed is not None:
            return entry is not None
        filed = None
        try:
            filed = self._put(run, payload)
        except ValueError as error:
            self._sayings.say("odd", f"what was to be written is no entry: {error}")
        except OSError as error:
            self._write_failed(error)
        if filed is None:
            self.catalogue.remove(run.label.name)
            return False
        self.catalogue.written(entry, filed)
        return True

    def set_aside(self, name: str, why: str) -> None:
        """Use an entry no more, and keep its file for who wants to find out."""
        self.catalogue.block(name)
        self.counts.set_aside += 1
        self._sayings.say("aside", f"{name} is set aside: {why}")
        if self.lost or self._closed:
            return
        try:
            self._folder.set_aside(name, ASIDE_MOST)
        except OSError as error:
            self._sayings.say("aside failed", f"{name} could not be moved: {error.strerror or error}")
            self._remove(name)

    def _put(self, run: Run, payload: bytes) -> Filed | None:
        """Raises OSError, ValueError."""
        if not self.writable:
            return None
        pieces = encode(run.label, run.space.fields, payload)
        size = sum(map(len, pieces))
        if not self._make_room(size, run):
            self._sayings.say("room", f"there is no room for {size} more bytes")
            self._paused_until = time.monotonic() + PAUSE_S
            return None
        self.counts.file_bytes += size
        filed = self._folder.put(run.label.name, pieces)
        self.counts.written += 1
        self.counts.kv_bytes += len(payload)
        return filed

    def _write_failed(self, error: OSError) -> None:
        self._sayings.say("write", f"an entry could not be written: {error.strerror or error}")
        self._paused_until = time.monotonic() + PAUSE_S
        if error.errno in _GONE:
            self.lost = True

    # Room.

    def _make_room(self, size: int, run: Run) -> bool:
        """Evict until so many more bytes fit. Nothing goes that is as young as `run`: that is what `run` stands on. And
        nothing pinned goes for what is not.
        """
        most = self._room() - size
        if most >= 0 and not self._fits(most):
            self._evict(most, run.stamp, pinned_too=run.label.salt in self.pinned)
        return self._fits(most)

    def _fits(self, most: int) -> bool:
        return self.catalogue.size <= most and len(self.catalogue) <= MAX_FILES

    def _room(self) -> int:
        """Bytes that all entries together may take: the limit, or less where the file system is nearly full."""
        return min(self._limit, self.catalogue.size + self._folder.free() - self._keep_free)

    def _evict(self, most: int, before: int, *, pinned_too: bool) -> None:
        """Remove entries that were last used before then, the least recently used first and the pinned last."""
        young_last = [entry for entry in self.catalogue.oldest() if entry.used < before]
        loose = [entry for entry in young_last if entry.label.salt not in self.pinned]
        pinned = [entry for entry in young_last if entry.label.salt in self.pinned] if pinned_too else []
        if self.catalogue.size - sum(entry.size for entry in [*loose, *pinned]) > most:
            return  # it would be for nothing
        # A little more than needed, so that not every write has to look for the oldest.
        most -= self._limit // EVICT_PARTS
        for entry in [*loose, *pinned]:
            if self._fits(most):
                return
            self.counts.evicted += 1
            self.catalogue.remove(entry.label.name)
            self._remove(entry.label.name)

    def _remove(self, name: str) -> None:
        try:
            self._folder.remove(name)
        except OSError as error:
            self._sayings.say("remove", f"an entry could not be removed: {error.strerror or error}")

    # Reading, in the reader's thread.

    def get(self, found: Found) -> bytes | None:
        """The KV of all of an entry's tokens, confirmed to the last byte; None for whatever is wrong with it."""
        with self._reading:
            payload = None if self._closed else self._get(found)
        if payload is None:
            self.counts.missed += 1
        else:
            self.counts.read += 1
        return payload

    def _get(self, found: Found) -> bytes | None:
        label = found.entry.label
        try:
            with self._folder.reading(label.name) as file:
                header = read_header(file)
                if header.label != label or label.salt != found.space.salt:
                    raise Damaged("it is of other tokens, or of another place")
                if header.fields != found.space.fields:
                    raise Damaged("it is of another identity")
                return read_payload(file, header)
        except Damaged as damage:
            self._discard(label.name, damage)
        except (OSError, MemoryError) as error:
            # Forgotten until the next start, so that nobody tries it again and again.
            self.catalogue.remove(label.name)
            self._sayings.say("read", f"an entry could not be read: {error}")
        return None

    def _discard(self, name: str, damage: Damaged) -> None:
        self.counts.damaged += 1
        self._sayings.say("damaged", f"{name} is removed: {damage}")
        self._remove(name)
        self.catalogue.remove(name)  # last, so that nobody writes it anew before it is gone

    # Use, from any thread.

    def begin_use(self, name: str) -> None:
        """Mark an entry, so that it is known if the process dies of it."""
        try:
            self._marks.begin(name)
        except OSError as error:
            self._sayings.say("marks", f"what is in use could not be noted: {error.strerror or error}")

    def end_use(self, name: str) -> None:
        """The process has survived its use."""
        try:
            self._marks.end(name)
        except OSError as error:
            self._sayings.say("marks", f"what is in use could not be noted: {error.strerror or error}")

    # The start.

    def _take_stock(self) -> None:
        """Find out what is there. Raises OSError."""
        for name in self._folder.set_aside_names():
            self.catalogue.block(name)
        for name in self._marks.condemned:
            self.set_aside(name, f"the engine died {DEATHS} times with it in use")
        indexed = self._index.entries()
        files, foreign = self._folder.files()
        if foreign:
            self._sayings.say("foreign", f"{foreign} files in the folder are not ours, and left alone")
        for name, filed in files.items():
            row = indexed.pop(name, None)
            if row is not None and row.filed == filed:
                self.catalogue.add(row, known=True)
            elif (entry := self._read_entry(name, filed)) is not None:
                self.catalogue.add(entry)
        for name in indexed:
            self.catalogue.note_removed(name)
        if not self._fits(self._room()):
            self._evict(max(0, self._room()), _FAR, pinned_too=True)
        self.tidy()

    def _read_entry(self, name: str, filed: Filed) -> Entry | None:
        """What a file says of itself; None, and removed, if that is not what its name says."""
        try:
            with self._folder.reading(name) as file:
                label = read_header(file).label
            if label.name != name:
                raise Damaged("it is another entry's file")
            return Entry(label, min(filed.mtime_ns, _FAR - 1), filed)
        except Damaged as damage:
            self._discard(name, damage)
        except OSError as error:
            self._sayings.say("read", f"an entry could not be read: {error}")
        return None
