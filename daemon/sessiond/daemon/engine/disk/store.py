"""The entries on disk: put, get, evict. Its methods wait for the disk, and belong to the tier's own threads.

Every fault is a miss and a line in the log. A damaged entry is removed; one whose use failed is set aside.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from pathlib import Path

from sessiond.daemon.engine.disk.catalogue import Catalogue, Entry, Found, Run
from sessiond.daemon.engine.disk.counts import Counts
from sessiond.daemon.engine.disk.folder import LOCK_PATIENCE_S, Filed, Folder, Unusable
from sessiond.daemon.engine.disk.format import Damaged, encode, read_header, read_payload
from sessiond.daemon.engine.disk.index import Index, last_used
from sessiond.daemon.engine.disk.marks import DEATHS, Marks
from sessiond.daemon.engine.disk.others import Others
from sessiond.daemon.engine.disk.room import KEEP_FREE, Room
from sessiond.daemon.engine.disk.sayings import Sayings

ASIDE_MOST = 16
"""Entries that are kept aside, for who wants to find out. What was set aside is not written again while it is there."""
PAUSE_S = 30.0
"""After a write that failed, none is tried for so long."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""What a write answers whose folder was removed."""


class Store:
    """One folder. Opening it cleans it and reads what is there. It and the folders of other engines beside it are kept within
    `limit` bytes. Raises Unusable.
    """

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
        self.lost = False
        """The folder is gone: nothing more can be written."""
        self._sayings = sayings
        self._paused_until = 0.0
        self._reading = threading.Lock()
        """Held while a file is read, so that the folder is not closed meanwhile."""
        self._closed = False
        self._folder = Folder(path, patience_s)
        self._index = Index(self._folder, sayings)
        others = Others(path, sayings)
        self.room = Room(self._folder, self.catalogue, self.counts, others, limit, keep_free)
        try:
            self._marks = Marks(self._folder.open_marks())
            self._take_stock()
        except BaseException as error:
            # Whatever it was: a folder that stays locked could not be tried again.
            self._index.close()
            self._folder.close()
            if isinstance(error, OSError):
                raise Unusable(f"{path}: {error.strerror or error}") from error
            raise

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
            self._write_index()
            self._index.close()
            self._marks.close()
            self._folder.close()

    def tidy(self) -> None:
        """Bring the index up to date, and keep within the budget whatever came beside us."""
        with contextlib.suppress(OSError):
            self.room.keep()
        self._write_index()

    def _write_index(self) -> None:
        self._index.write(self.catalogue.take_changes())

    # Writing, in the writer's thread.

    def put(self, run: Run, payload: bytes) -> bool:
        """Write an entry for `run`, unless it is there. Whether it is there now; if not, it is forgotten."""
        entry = self.catalogue.reserve(run)
        if entry is None or entry.filed is not None:
            return entry is not None
        filed = None
        try:
            filed = self._put(run, entry, payload)
        except ValueError as error:
            self._sayings.say("odd", f"what was to be written is no entry: {error}")
        except OSError as error:
            self._write_failed(error, entry, len(payload))
        finally:
            if filed is None:
                self.catalogue.remove(entry)
        if filed is not None:
            self.catalogue.written(entry, filed)
        return filed is not None

    def set_aside(self, name: str, why: str) -> bool:
        """Use an entry no more, and keep its file for who wants to find out. Whether it is out of the way for good."""
        self.catalogue.block(name)
        self.counts.set_aside += 1
        self._sayings.say("aside", f"{name} is set aside: {why}")
        if self.lost or self._closed:
            return False
        try:
            self._folder.set_aside(name, ASIDE_MOST)
        except OSError as error:
            self._sayings.say("aside failed", f"{name} could not be moved: {error.strerror or error}")
            return self._remove(name)
        return True

    def _put(self, run: Run, entry: Entry, payload: bytes) -> Filed | None:
        """Raises OSError, ValueError."""
        if not self.writable:
            return None
        pieces = encode(run.label, run.space.fields, payload)
        size = sum(map(len, pieces))
        if not self.room.make(size, entry):
            self._no_room(size, entry)
            return None
        self.counts.file_bytes += size
        filed = self._folder.put(run.label.name, pieces)
        self.counts.written += 1
        self.counts.kv_bytes += len(payload)
        return filed

    def _no_room(self, size: int, entry: Entry) -> None:
        """Where only what was used since keeps it out, nothing is wrong: asked for again, it is the younger one. Else it
        would be asked for again in vain, and so would all that stands behind it.
        """
        if self.room.could_be(size, entry):
            self.counts.dropped += 1
            return
        self._sayings.say("room", f"there is no room for {size} more bytes")
        self._paused_until = time.monotonic() + PAUSE_S

    def _write_failed(self, error: OSError, entry: Entry, size: int) -> None:
        self._sayings.say("write", f"an entry could not be written: {error.strerror or error}")
        self._paused_until = time.monotonic() + PAUSE_S
        if error.errno in _GONE:
            self.lost = True
        elif error.errno in _FULL:
            # A quota is not seen in what is free: without this nothing new would ever be kept again.
            with contextlib.suppress(OSError):
                self.room.give(size, entry)

    def _remove(self, name: str) -> bool:
        """Whether it is gone."""
        try:
            self._folder.remove(name)
        except OSError as error:
            self._sayings.say("remove", f"an entry could not be removed: {error.strerror or error}")
            return False
        return True

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
            self.catalogue.remove(found.entry)  # last, so that nobody writes it anew before it is gone
        except (OSError, MemoryError) as error:
            # Forgotten until the next start, so that nobody tries it again and again.
            self.catalogue.remove(found.entry)
            self._sayings.say("read", f"an entry could not be read: {error}")
        return None

    def _discard(self, name: str, damage: Damaged) -> None:
        self.counts.damaged += 1
        self._sayings.say("damaged", f"{name} is removed: {damage}")
        self._remove(name)

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
            if self.set_aside(name, f"the engine died {DEATHS} times with it in use"):
                self._marks.end(name)
        files, foreign = self._folder.files()
        if foreign:
            self._sayings.say("foreign", f"{foreign} files in the folder are not ours, and left alone")
        rows = self._index.entries()
        known = {name: row for name, row in rows.items() if row.filed == files.get(name)}
        for name in rows.keys() - known.keys():
            self.catalogue.note_removed(name)
        for name in self.room.trim(files, known):
            self._take_in(name, files[name], known.get(name))
        self._write_index()

    def _take_in(self, name: str, filed: Filed, row: Entry | None) -> None:
        entry = row or self._read_entry(name, filed)
        if entry is None:
            return
        if self.room.has_memory_for(entry):
            self.catalogue.add(entry, known=row is not None)
        else:
            self.room.leave(name)

    def _read_entry(self, name: str, filed: Filed) -> Entry | None:
        """What a file says of itself; None, and removed, if that is not what its name says."""
        try:
            with self._folder.reading(name) as file:
                label = read_header(file).label
            if label.name != name:
                raise Damaged("it is another entry's file")
            return Entry(label, last_used(filed, None), filed)
        except Damaged as damage:
            self._discard(name, damage)
        except OSError as error:
            self._sayings.say("read", f"an entry could not be read: {error}")
        return None
