"""What the entries' headers say, in one file, so that a start need not open thousands. Never the truth.

A row counts only if its file is there with the same size and time; of any other file the header is read. What cannot be
read, is damaged or is of another version is made anew. So nothing in it needs to be forced to the disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat

from sessiond.daemon.engine.disk.catalogue import Changes, Entry
from sessiond.daemon.engine.disk.folder import Filed, Folder
from sessiond.daemon.engine.disk.format import Label
from sessiond.daemon.engine.disk.keys import KEY_BYTES, TOKEN_BYTES
from sessiond.daemon.engine.disk.sayings import Sayings

FILE = "index.db"
MAX_BYTES = 1 << 30
"""A larger file is none of ours."""
_APPLICATION = 0x534B5631
_VERSION = 1
_TABLE = """
    CREATE TABLE entries (
        name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, used INTEGER,
        salt BLOB, parent BLOB, key BLOB, start INTEGER, tokens BLOB
    ) WITHOUT ROWID
"""
_UPSERT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Index:
    """Belongs to one thread at a time. Every fault of it is said, and ends its use until the next start."""

    def __init__(self, folder: Folder, sayings: Sayings) -> None:
        self._folder = folder
        self._sayings = sayings
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = self._connect()
        except (sqlite3.Error, OSError, ValueError) as error:
            sayings.say("index", f"the index is made anew: {error}")
            self._remove()
            with contextlib.suppress(sqlite3.Error, OSError, ValueError):
                self._connection = self._connect()

    def entries(self) -> dict[str, Entry]:
        """The rows that make sense, by the name of their file."""
        found: dict[str, Entry] = {}
        if self._connection is None:
            return found
        try:
            for row in self._connection.execute("SELECT * FROM entries"):
                entry = _entry(row)
                if entry is not None:
                    found[row[0]] = entry
        except sqlite3.Error as error:
            self._lose(error)
        return found

    def write(self, changes: Changes) -> None:
        """Take these changes over."""
        if self._connection is None or not (changes.changed or changes.removed):
            return
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                self._connection.executemany(
                    "DELETE FROM entries WHERE name = ?", [(name,) for name in changes.removed]
                )
                self._connection.executemany(_UPSERT, [_row(entry) for entry in changes.changed])
        except (
            sqlite3.Error,
            OverflowError,
        ) as error:  # a file may have a time that SQLite has no number for
            self._lose(error)

    def close(self) -> None:
        """Twice is once."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, OSError, ValueError."""
        file = os.open(
            FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=self._folder.root
        )
        told = os.fstat(file)
        os.close(file)
        if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid() or told.st_size > MAX_BYTES:
            raise ValueError("its file is not a plain one of this user")
        # By its path: SQLite takes no open folder. The folder is ours alone, so nobody can exchange it.
        connection = sqlite3.connect(
            self._folder.path / FILE, timeout=0.0, check_same_thread=False, isolation_level=None
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lose(self, error: Exception) -> None:
        self._sayings.say("index", f"the index is lost until the next start: {error}")
        self.close()
        self._remove()

    def _remove(self) -> None:
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal"):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder.root)


def _prepare(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.Error, ValueError for a database that is not ours."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # A kill leaves a log whole. A power cut may not, and then the next start finds out.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not application and not version and not connection.execute("SELECT * FROM sqlite_master").fetchone():
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        return
    if application != _APPLICATION or version != _VERSION:
        raise ValueError("it is of another version")
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise ValueError("it is damaged")
    connection.execute(
        "SELECT name, size, mtime_ns, used, salt, parent, key, start, tokens FROM entries LIMIT 1"
    )


def _row(entry: Entry) -> tuple[object, ...]:
    label, filed = entry.label, entry.filed
    assert filed is not None
    return (
        label.name,
        filed.size,
        filed.mtime_ns,
        entry.used,
        label.salt,
        label.parent,
        label.key,
        label.start,
        label.tokens,
    )


def _entry(row: tuple[object, ...]) -> Entry | None:
    """The entry of a row; None if it cannot be one. SQLite keeps any value in any column."""
    match row:
        case (
            str(name),
            int(size),
            int(mtime_ns),
            int(used),
            bytes(salt),
            bytes(parent),
            bytes(key),
            int(start),
            bytes(tokens),
        ):
            label = Label(salt, parent, key, start, tokens)
            sound = (
                len(salt) == len(parent) == len(key) == KEY_BYTES and tokens and not len(tokens) % TOKEN_BYTES
            )
            return Entry(label, used, Filed(size, mtime_ns)) if sound and label.name == name else None
        case _:
            return None
