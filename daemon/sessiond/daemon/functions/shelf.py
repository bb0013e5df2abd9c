"""Definitions on disk, a file for each, so that functions outlive the daemon.

A file is one line that says what it is, the SHA-256 of the rest, and the definition in the client's words. It is written
under another name, forced to the disk and renamed: after any end of the daemon the old one stands or the new one. What
is no definition is put aside and told of, and what the system would not give us is told of and left where it stands: neither
keeps the others, or the daemon, from coming back.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from sessiond.daemon.functions.definition import MAX_FUNCTIONS, MAX_SAID, NAME
from sessiond.daemon.private import NotPrivate, make_folders, open_private
from sessiond.v1.errors import SessionUnavailable

log = structlog.get_logger(__name__)

HEAD = b"sessiond function 1\n"
SUFFIX = ".function"
_DIGEST = 64
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Shelf:
    """In the daemon's event loop; reads at its start, writes in a thread. Without a `path` nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._folder: int | None = None
        self._why_none = "it was not opened"
        """Why there is no folder, where there should be one."""

    def load(self) -> dict[str, bytes]:
        """What was defined, by name. Nothing if another daemon has the folder, or if it cannot be used."""
        if self._path is None:
            return {}
        try:
            make_folders(self._path)
            folder = open_private(self._path, "the folder of functions", close=True)
        except (OSError, NotPrivate) as error:
            self._unusable(error)
            return {}
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._folder = folder
            return dict(_read_all(folder))
        except OSError as error:
            self._unusable(error)
            self._folder = None
            os.close(folder)
            return {}

    def _unusable(self, error: Exception) -> None:
        self._why_none = "another daemon has it" if isinstance(error, BlockingIOError) else str(error)
        log.warning("functions.unusable", error=str(error))

    async def keep(self, name: str, said: bytes) -> None:
        """Write a definition, in place of the one of that name. Raises SessionUnavailable where it cannot be kept."""
        await self._do(lambda folder: _write(folder, name, said), "kept")

    async def remove(self, name: str) -> None:
        """Forget a definition. Raises SessionUnavailable where it would be there again after a restart."""
        await self._do(lambda folder: _remove(folder, name), "deleted")

    def set_aside(self, name: str, why: str) -> None:
        """Whoever knows its words cannot read this one."""
        if self._folder is not None:
            _set_aside(self._folder, name + SUFFIX, why)

    def close(self) -> None:
        """Let go of the folder."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder, self._why_none = None, "it was closed"

    async def _do(self, act: Callable[[int], None], done: str) -> None:
        if self._path is None:
            return
        if self._folder is None:
            raise SessionUnavailable(
                f"the definition cannot be {done}: the folder of functions cannot be used: {self._why_none}"
            )

        def acting(folder: int) -> None:
            try:
                act(folder)
            finally:
                os.close(folder)

        try:
            # The thread's own: ours may be closed, and its number given to another file.
            await asyncio.to_thread(acting, os.dup(self._folder))
        except OSError as error:
            raise SessionUnavailable(f"the definition cannot be {done} on disk: {error.strerror}") from error


def _write(folder: int, name: str, said: bytes) -> None:
    fresh = f".{name}.new"
    with os.fdopen(os.open(fresh, _WRITE, 0o600, dir_fd=folder), "wb") as file:
        file.write(HEAD + hashlib.sha256(said).hexdigest().encode() + b"\n" + said)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, name + SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name + SUFFIX, dir_fd=folder)
        os.fsync(folder)


class _Unreadable(Exception):
    """A file that we did not write, or that was spoilt since."""


def _read_all(folder: int) -> Iterator[tuple[str, bytes]]:
    """Raises OSError if the folder cannot be read."""
    found = 0
    for file in sorted(os.listdir(folder)):
        name = file.removesuffix(SUFFIX)
        if name == file or not NAME.fullmatch(name):
            continue
        if found == MAX_FUNCTIONS:
            log.warning("functions.too_many", most=MAX_FUNCTIONS)
            return
        try:
            said = _read(folder, file)
        except _Unreadable as error:
            _set_aside(folder, file, str(error))
        except OSError as error:  # too many open files, perhaps: at the next start it may be read
            log.warning("functions.not_read", file=file, error=str(error))
        else:
            found += 1
            yield name, said


def _read(folder: int, file: str) -> bytes:
    if not stat.S_ISREG(os.stat(file, dir_fd=folder, follow_symlinks=False).st_mode):
        raise _Unreadable("it is no file")
    with os.fdopen(os.open(file, _READ, dir_fd=folder), "rb") as stream:
        most = len(HEAD) + _DIGEST + 1 + MAX_SAID
        data = stream.read(most + 1)
    if len(data) > most:
        raise _Unreadable("it is too long")
    head, digest, said = data[: len(HEAD)], data[len(HEAD) :][:_DIGEST], data[len(HEAD) + _DIGEST + 1 :]
    if head != HEAD or hashlib.sha256(said).hexdigest().encode() != digest:
        raise _Unreadable("it is not what was written")
    return said


def _set_aside(folder: int, file: str, why: str) -> None:
    """Keep it for whoever wants to look, but out of the way."""
    log.warning("functions.set_aside", file=file, why=why)
    try:
        os.replace(file, file + ".damaged", src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:  # a folder of that name, perhaps
        log.warning("functions.not_set_aside", file=file, error=str(error))
