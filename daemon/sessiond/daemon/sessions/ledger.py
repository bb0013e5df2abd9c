"""The sessions of a daemon, on disk: so that their names answer after any end of it, a power cut too.

What is written is what opened a session and what its prefix is made from, never KV: that comes back from the disk tier, or
is computed. Prefixes that clients give as text are written as text. The file is a cache of what clients could say again:
if it cannot be read or written, the daemon goes on without. A row that cannot be read is told of, and removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sessiond.daemon.private import make_folders
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.sources import PrefixRequest

log = structlog.get_logger(__name__)

WAIT_S = 0.5
"""How long changes are gathered before they are written. What a power cut takes is no more than that."""
MAX_BYTES = 256 << 20
"""Of one session. A longer one is not believed."""
MOST_UNREAD = 100
"""Rows that cannot be read of which one start tells, and which it removes. The others are left to the next one."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_COLUMNS = "(id TEXT PRIMARY KEY, created REAL NOT NULL, said BLOB NOT NULL) STRICT"
_ROWS = "SELECT rowid, id, created, CASE WHEN length(said) <= ? THEN said END FROM sessions"


@dataclass(frozen=True, slots=True)
class Remembered:
    """A session, as it can be made again."""

    id: str
    created: float
    """Seconds since the epoch."""
    opened: OpenRequest
    prefix: PrefixRequest | None = None
    """What its prefix was last made from; None if it never had one."""

    @property
    def name(self) -> str:
        """Of the session."""
        return f"sessions/{self.id}"


@dataclass(frozen=True, slots=True)
class _Said:
    """What stands in a row."""

    opened: OpenRequest
    prefix: PrefixRequest | None


class Ledger:
    """In the daemon's event loop; writes in a thread. Without a `path` nothing is remembered."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Remembered] = {}
        self._changed: set[str] = set()
        self._lock: int | None = None
        self._writing: asyncio.Task[None] | None = None

    def load(self) -> list[Remembered]:
        """What was remembered, oldest first. Nothing if another daemon has the file, or if it cannot be used."""
        if self._path is None:
            return []
        try:
            self._lock = _locked(self._path)
            with contextlib.closing(_opened(self._path)) as database:
                found, unread = _read_all(database)
                _remove(database, unread)
        except (OSError, sqlite3.Error) as error:
            log.warning("ledger.unusable", error=str(error))
            self._path = None
            return []
        self._known = {each.id: each for each in found}
        return found

    def remember(self, session: Remembered) -> None:
        """A session was opened, or is another one now. Never waits."""
        if self._path is not None and self._known.get(session.id) != session:
            self._known[session.id] = session
            self._note(session.id)

    def moved(self, session: str, prefix: PrefixRequest) -> None:
        """A session was brought to the prefix that is made from this. Never waits."""
        known = self._known.get(session)
        if known is not None:
            self.remember(replace(known, prefix=replace(prefix, expect=None)))

    def fork(self, parent: str, child: str) -> None:
        """A session began as another one is. Never waits."""
        known = self._known.get(parent)
        if known is not None and known.prefix is not None:
            self.moved(child, known.prefix)

    def forget(self, session: str) -> None:
        """A session was closed. Never waits."""
        if self._known.pop(session, None) is not None:
            self._note(session)

    def _note(self, session: str) -> None:
        self._changed.add(session)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        while self._changed:
            await asyncio.sleep(WAIT_S)
            if not await self._write():
                return  # with the next change it is tried again

    async def _write(self) -> bool:
        if self._path is None or not self._changed:
            return True
        changed, self._changed = self._changed, set()
        rows = {session: self._known.get(session) for session in changed}
        try:
            await asyncio.to_thread(_write, self._path, rows)
        except (OSError, sqlite3.Error) as error:
            log.warning("ledger.not_written", error=str(error))
            self._changed |= changed
            return False
        return True

    async def close(self) -> None:
        """Write what is not written yet, and let go of the file."""
        if self._writing is not None:
            await self._writing  # a thread of it may be at work, and it does not wait for long
        await self._write()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(path: Path) -> int:
    """The lock of the file, held. Raises OSError if another daemon has it."""
    make_folders(path.parent)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


class _NotOurs(sqlite3.DatabaseError):
    """A database that we did not make."""


def _opened(path: Path) -> sqlite3.Connection:
    """The database; one that is damaged, or not ours, is put aside. Raises OSError, sqlite3.Error."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        # A full disk, or somebody who reads it meanwhile, is no reason to lose what stands there.
        if not isinstance(error, _NotOurs) and error.sqlite_errorcode not in _DAMAGED:
            raise
        log.warning("ledger.set_aside", error=str(error))
        path.replace(path.with_suffix(".damaged"))
        for beside in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA trusted_schema = OFF")
        database.text_factory = _text
        database.execute(f"CREATE TABLE IF NOT EXISTS sessions {_COLUMNS}")
        [programs] = database.execute("SELECT count(*) FROM sqlite_schema WHERE type IN ('view', 'trigger')")
        tables = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'sessions'").fetchall()
        if programs != (0,) or tables != [(f"CREATE TABLE sessions {_COLUMNS}",)]:
            raise _NotOurs("it has another schema")
    except BaseException:
        database.close()
        raise
    return database


def _text(raw: bytes) -> str:
    """Whatever stands there: text that is none must not keep all other rows from being read."""
    return raw.decode(errors="replace")


def _write(path: Path, rows: dict[str, Remembered | None]) -> None:
    with contextlib.closing(_opened(path)) as database:
        database.execute("BEGIN IMMEDIATE")
        for session, known in rows.items():
            if known is None:
                database.execute("DELETE FROM sessions WHERE id = ?", (session,))
            else:
                said = msgspec.json.encode(_Said(known.opened, known.prefix), enc_hook=_plain)
                row = (session, known.created, said)
                database.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", row)
        database.execute("COMMIT")


def _read_all(database: sqlite3.Connection) -> tuple[list[Remembered], list[int]]:
    """The sessions, oldest first, and the rows that cannot be read and of which was told. Raises sqlite3.Error."""
    found, unread = list[Remembered](), list[int]()
    for row, *values in database.execute(f"{_ROWS} ORDER BY created", (MAX_BYTES,)):
        try:
            found.append(_read(*values))
        except _Unreadable as error:
            if len(unread) < MOST_UNREAD:
                log.warning("ledger.row_unread", error=str(error))
                unread.append(row)
    return found, unread


def _remove(database: sqlite3.Connection, unread: list[int]) -> None:
    """Remove rows of which was told. Each is looked at again where nobody else can write: what can be read stays."""
    if not unread:
        return
    try:
        database.execute("BEGIN IMMEDIATE")
        for row in unread:
            for _, *values in database.execute(f"{_ROWS} WHERE rowid = ?", (MAX_BYTES, row)).fetchall():
                try:
                    _read(*values)
                except _Unreadable:
                    database.execute("DELETE FROM sessions WHERE rowid = ?", (row,))
        database.execute("COMMIT")
    except sqlite3.Error as error:
        log.warning("ledger.rows_not_removed", error=str(error))


class _Unreadable(Exception):
    """A row that we did not write, or that was spoilt since."""


def _read(session: Any, created: Any, said: Any) -> Remembered:
    """A row's session. Raises _Unreadable."""
    if not (isinstance(session, str) and isinstance(created, float) and isinstance(said, bytes)):
        raise _Unreadable("it is too long, or has columns of other kinds")
    if not session.isalnum() or len(session) > 64:
        raise _Unreadable("it has no id")
    try:
        told = msgspec.json.decode(said, type=_Said, dec_hook=_path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Unreadable(str(error)) from error
    return Remembered(session, created, told.opened, told.prefix)


def _plain(value: object) -> str:
    assert isinstance(value, Path)
    return str(value)  # it came as UTF-8


def _path(kind: type, value: Any) -> Path:
    if kind is not Path or not isinstance(value, str) or not Path(value).is_absolute():
        raise msgspec.ValidationError("no absolute path")
    return Path(value)
