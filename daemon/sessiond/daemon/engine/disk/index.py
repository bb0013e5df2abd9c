"""What the entries' headers say, in one file, so that a start need not open thousands. Never the truth.

A row counts only if its file is there with the same size and time; of any other file the header is read. What cannot be
read, is damaged or is of another version is made anew. So nothing in it needs to be forced to the disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from sessiond.daemon.engine.disk.catalogue import Changes, Entry
from sessiond.daemon.engine.disk.folder import MAX_FILES, Filed, Folder, is_writable_file
from sessiond.daemon.engine.disk.format import MAX_START, MAX_TOKENS, Label
from sessiond.daemon.engine.disk.keys import KEY_BYTES, TOKEN_BYTES
from sessiond.daemon.engine.disk.sayings import Sayings

FILE = "index.db"
MAX_BYTES = 1 << 29
"""A larger file is none of ours."""
MAX_ROW_BYTES = 1 << 20
FAR = 1 << 62
"""Nanoseconds since the epoch, later than any time that an entry can have: a clock that counts on from here would soon
leave what SQLite has numbers for."""
_JOURNAL = f"{FILE}-journal"
_BESIDE = (f"{FILE}-wal", f"{FILE}-shm", _JOURNAL)
FILES = (FILE, *_BESIDE)
"""All names that it may have in the folder."""
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
            for row in self._connection.execute("SELECT * FROM entries LIMIT ?", (MAX_FILES,)):
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
                rows = [_row(entry) for entry in changes.changed if _has_number(entry)]
                self._connection.executemany(_UPSERT, rows)
        except sqlite3.Error as error:
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
        self._check(told)
        # By its path: SQLite takes no open folder. The folder is ours alone, so nobody can exchange it; but one above it
        # may have been, since it was opened.
        path = self._folder.path / FILE
        if not os.path.samestat(path.lstat(), told):
            raise ValueError("its folder is elsewhere now")
        connection = sqlite3.connect(path, timeout=0.0, check_same_thread=False, isolation_level=None)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, told: os.stat_result) -> None:
        """SQLite follows and overwrites whatever has the names of its other files. Raises OSError, ValueError."""
        beside = [told]
        for name in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                beside.append(os.stat(name, dir_fd=self._folder.root, follow_symlinks=False))
        if not all(is_writable_file(each) and each.st_size <= MAX_BYTES for each in beside):
            raise ValueError("its file is not a plain one of this user")
        # Such a one is only there if the very first start was cut off, and it may name any file to be removed.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_JOURNAL, dir_fd=self._folder.root)

    def _lose(self, error: Exception) -> None:
        self._sayings.say("index", f"the index is lost until the next start: {error}")
        self.close()
        self._remove()

    def _remove(self) -> None:
        for name in FILES:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder.root)


def _prepare(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.Error, ValueError for a database that is not ours."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # A kill leaves a log whole. A power cut may not, and then the next start finds out.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchmany(2)
    if not application and not version and not schema:
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        return
    if application != _APPLICATION or version != _VERSION:
        raise ValueError("it is of another version")
    # Nothing but our table: a view or a trigger is a program, which need not end.
    if [(kind, name, str(sql).split()) for kind, name, sql in schema] != [
        ("table", "entries", _TABLE.split())
    ]:
        raise ValueError("it has other tables")
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise ValueError("it is damaged")


def last_used(filed: Filed, row: Entry | None) -> int:
    """Nanoseconds since the epoch: what the index says of that very file, or else when it was written, whatever somebody
    made of its time.
    """
    if row is not None and row.filed == filed:
        return row.used
    return max(0, min(filed.mtime_ns, FAR - 1))


def _has_number(entry: Entry) -> bool:
    """Whether SQLite has one for the time of its file, which somebody may have set to any."""
    return entry.filed is not None and abs(entry.filed.mtime_ns) < 1 << 63


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
                len(salt) == len(parent) == len(key) == KEY_BYTES
                and 0 < label.count <= MAX_TOKENS
                and not len(tokens) % TOKEN_BYTES
                and 0 <= start <= MAX_START
                and 0 <= used < FAR
            )
            return Entry(label, used, Filed(size, mtime_ns)) if sound and label.name == name else None
        case _:
            return None
