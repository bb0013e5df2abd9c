"""A file on its way: nobody finds it under its name before it is whole and on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from sessiond.daemon.private import open_private
from sessiond.daemon.sessions.snapshot.format import MAGIC


class Draft:
    """Written beside what it will replace, with mode 0600. `close` must follow in any case; without `commit` before it,
    nothing is left. Its methods raise OSError, and block.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = f".{secrets.token_hex(8)}.snapshot"
        self._folder = self._file = -1
        self._is_named = False
        self.size = 0
        """Bytes written."""

    def open(self) -> None:
        """Begin. Raises NotPrivate too, where others may write to the folder."""
        self._folder = open_private(self._path.parent, "the snapshot's folder", close=False)
        self._check_target()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._temporary, flags, 0o600, dir_fd=self._folder)

    def write(self, *pieces: bytes) -> None:
        """Go on."""
        for each in pieces:
            rest = memoryview(each)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self.size += len(each)

    def commit(self) -> None:
        """Force it to the disk, and give it its name."""
        os.fsync(self._file)
        self._check_target()
        os.rename(self._temporary, self._path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._is_named = True
        os.fsync(self._folder)

    def close(self) -> None:
        """Remove what was not committed. Twice is once."""
        file, self._file = self._file, -1  # the numbers may be those of other files from now on
        folder, self._folder = self._folder, -1
        if file >= 0:
            os.close(file)
            if not self._is_named:
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary, dir_fd=folder)
        if folder >= 0:
            os.close(folder)

    def _check_target(self) -> None:
        """Raises OSError unless there is nothing under the name, or a snapshot of this user, or a file without a byte: a name
        that was mistaken must not cost what stands there.
        """
        try:
            told = os.stat(self._path.name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(told.st_mode):
            raise OSError(errno.EEXIST, "it is there and is no plain file")
        if told.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it is there and belongs to another user")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(self._path.name, flags, dir_fd=self._folder)
        try:
            if os.read(file, len(MAGIC)) not in {b"", MAGIC}:
                raise OSError(errno.EEXIST, "it is there and is no snapshot")
        finally:
            os.close(file)
