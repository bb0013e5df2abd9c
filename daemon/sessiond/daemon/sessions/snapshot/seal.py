"""Whose KV a snapshot holds: a daemon seals what it computed itself, and knows its seal again.

KV cannot be told from forged KV by looking at it. So only under this seal may it join what other sessions use.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import threading
from pathlib import Path

import structlog

from sessiond.daemon.sessions.snapshot.format import NOBODY

log = structlog.get_logger(__name__)

KEY_BYTES = 32
_PURPOSE = b"sessiond snapshot 1\0"


class Seal:
    """A key in the state folder, made when it is first needed. Without a usable one nothing is sealed, and no seal is
    known. Blocks.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._key = b""
        self._lock = threading.Lock()
        """Sessions are saved and restored in several threads, and the first of them makes the key."""

    def of(self, checksum: bytes, root: str) -> bytes:
        """The seal of a file with that checksum, made over the workspace `root`; `NOBODY` without a key."""
        key = self._known_key()
        said = _PURPOSE + checksum + root.encode(errors="surrogateescape")
        return hmac.digest(key, said, hashlib.sha256) if key else NOBODY

    def is_ours(self, seal: bytes, checksum: bytes, root: str) -> bool:
        """Whether we sealed such a file."""
        return bool(self._known_key()) and hmac.compare_digest(seal, self.of(checksum, root))

    def _known_key(self) -> bytes:
        with self._lock:
            if not self._key and self._path is not None:
                try:
                    self._key = _read(self._path) or _made(self._path)
                except OSError as error:
                    log.warning("snapshot.no_key", error=str(error))
            return self._key


def _read(path: Path) -> bytes:
    """The key; empty where there is none that only this user can have seen. Raises OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        told = os.fstat(file)
        if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid() or told.st_mode & 0o077:
            return b""
        key = os.read(file, KEY_BYTES + 1)
        return key if len(key) == KEY_BYTES else b""
    finally:
        os.close(file)


def _made(path: Path) -> bytes:
    """The key that stands there now: a new one, or that of whoever was quicker. Raises OSError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.key")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, secrets.token_bytes(KEY_BYTES))
        os.fsync(file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if not _read(path):  # one that cannot be used
                temporary.replace(path)
    finally:
        os.close(file)
        temporary.unlink(missing_ok=True)
    # Not the one that was made: what was sealed under that, nobody knew again.
    return _read(path)
