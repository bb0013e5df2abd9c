"""The tier's folder: ours alone, one process at a time, and no file in it is there by half.

    lock      held by the process that uses the folder
    entries/  whole entries
    new/      files on their way; what a dead process left is removed at the next start
    aside/    entries whose use failed
    marks     what was in use when the process died
    index.db  may be lost

Everything is opened relative to folders that were checked once, so that nobody can exchange one later. Nothing is
followed, and nothing is opened that is not a plain file of ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import stat
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.private import OURS, NotPrivate, make_folders, open_private

MAX_FILES = 1 << 17
"""Entries that are looked at. More come of no budget that makes sense."""
LOCK_PATIENCE_S = 5.0
"""A dying engine with much memory holds its locks for a moment."""
_ENTRY = re.compile(r"[0-9a-f]{40}-(?:0|[1-9][0-9]{0,9})")
_TEMPORARY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
# Without O_NONBLOCK, opening a pipe that somebody put there would wait for a writer.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Unusable(Exception):
    """The folder cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class Filed:
    """What the file system says of an entry's file: another size or time is another file."""

    size: int
    mtime_ns: int


def is_entry_name(name: str) -> bool:
    """Whether a file of that name may be an entry."""
    return _ENTRY.fullmatch(name) is not None


def start_of(name: str) -> int:
    """The position at which the entry of that name begins."""
    return int(name.rpartition("-")[2])


class Folder:
    """See the module. Raises Unusable when it cannot be opened; its methods raise OSError."""

    def __init__(self, path: Path, patience_s: float = LOCK_PATIENCE_S) -> None:
        self.path = path.absolute()
        self._numbers = itertools.count()
        self._open: list[int] = []
        try:
            make_folders(self.path)
            self.root = self._take(open_private(self.path, "the folder", close=True))
            self._lock(patience_s)
            self.entries, self.new, self.aside = (self._sub(name) for name in ("entries", "new", "aside"))
            os.fsync(self.root)  # or a power cut takes the folders, and with them what was forced into them
            self._clean()
        except OSError as error:
            self.close()
            raise Unusable(f"{self.path}: {error.strerror or error}") from error
        except NotPrivate as fault:
            self.close()
            raise Unusable(str(fault)) from fault
        except Unusable as unusable:
            self.close()
            raise Unusable(f"{self.path}: {unusable}") from unusable

    def close(self) -> None:
        """Let another process use the folder. Twice is once."""
        while self._open:
            os.close(self._open.pop())

    def put(self, name: str, pieces: tuple[bytes, ...]) -> Filed:
        """Write an entry: whole, on the disk, and only then under its name."""
        temporary = f"{os.getpid()}-{next(self._numbers)}"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=self.new)
        try:
            for piece in pieces:
                _write(file, piece)
            os.fsync(file)
            told = os.fstat(file)
            os.rename(temporary, name, src_dir_fd=self.new, dst_dir_fd=self.entries)
            os.fsync(self.entries)
        except BaseException:
            # Under its name too, where only the last step failed: nobody would count its bytes.
            for left, where in ((temporary, self.new), (name, self.entries)):
                with contextlib.suppress(OSError):
                    os.unlink(left, dir_fd=where)
            raise
        finally:
            os.close(file)
        return Filed(told.st_size, told.st_mtime_ns)

    @contextlib.contextmanager
    def reading(self, name: str) -> Generator[int, None, None]:
        """An entry's file, open. Raises OSError also for what is no plain file of ours."""
        file = os.open(name, os.O_RDONLY | _FILE, dir_fd=self.entries)
        try:
            if not _is_ours(os.fstat(file)):
                raise OSError(errno.EPERM, "not a plain file of this user")
            yield file
        finally:
            os.close(file)

    def files(self) -> tuple[dict[str, Filed], int]:
        """Every file that may be an entry, and how many others there are."""
        return _list(self.entries)

    def remove(self, name: str) -> None:
        """Remove an entry. One that is not there is removed."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.entries)

    def set_aside(self, name: str, most: int) -> None:
        """Keep an entry where it is not used, and no more than `most` of them, the oldest gone first."""
        os.rename(name, name, src_dir_fd=self.entries, dst_dir_fd=self.aside)
        os.utime(name, dir_fd=self.aside, follow_symlinks=False)
        for old in self.set_aside_names()[:-most]:
            os.unlink(old, dir_fd=self.aside)

    def set_aside_names(self) -> list[str]:
        """What was set aside, the oldest first."""
        with os.scandir(self.aside) as listing:
            found = [
                (item.stat(follow_symlinks=False).st_mtime_ns, item.name)
                for item in itertools.islice(listing, MAX_FILES)
                if is_entry_name(item.name) and item.is_file(follow_symlinks=False)
            ]
        return [name for _, name in sorted(found)]

    def free(self) -> int:
        """Bytes that the file system has left for this user."""
        told = os.fstatvfs(self.entries)
        return told.f_bavail * told.f_frsize

    def open_marks(self) -> int:
        """The file of marks, open for reading and writing until `close`."""
        file = os.open("marks", os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=self.root)
        if not is_writable_file(os.fstat(file)):
            os.close(file)
            raise OSError(errno.EPERM, "its marks are not a plain file of this user")
        return self._take(file)

    def remove_if_empty(self, after_s: float, index: Iterable[str]) -> None:
        """Remove the folder if for so long it had no entries; `index` are the names that its index may have. What is not
        ours keeps it there. Raises OSError.
        """
        told = os.fstat(self.entries)
        if time.time() - told.st_mtime < after_s or self.files() != ({}, 0):
            return
        for name in self.set_aside_names():
            os.unlink(name, dir_fd=self.aside)
        for name in ("entries", "new", "aside"):
            os.rmdir(name, dir_fd=self.root)
        # The lock last: until it goes, no other process has the folder, and who waits for it finds that it is gone.
        for name in (*index, "marks", "lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.root)
        self.path.rmdir()

    # How it is done.

    def _take(self, file: int) -> int:
        self._open.append(file)
        return file

    def _sub(self, name: str) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, OURS, dir_fd=self.root)
        return self._take(open_private(Path(name), f"a folder in {self.path}", close=True, within=self.root))

    def _lock(self, patience_s: float) -> None:
        file = self._take(os.open("lock", os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=self.root))
        if not _is_ours(os.fstat(file)):
            raise Unusable("its lock is not a plain file of this user")
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Unusable("another process uses it") from None
                time.sleep(0.02)
            else:
                if not os.fstat(file).st_nlink:
                    raise Unusable("it was just removed")
                return

    def _clean(self) -> None:
        with os.scandir(self.new) as listing:
            for item in itertools.islice(listing, MAX_FILES):
                if _TEMPORARY.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                    os.unlink(item.name, dir_fd=self.new)


def is_locked(path: Path) -> bool:
    """Whether a process uses the folder there. Raises OSError."""
    file = os.open(path / "lock", os.O_RDONLY | _FILE)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def entries_size(path: Path) -> int:
    """Bytes of all entries of the folder there, which another process may use. Raises Unusable, OSError."""
    try:
        entries = open_private(path / "entries", "a folder", close=False)
    except NotPrivate as fault:
        raise Unusable(str(fault)) from fault
    try:
        return sum(filed.size for filed in _list(entries)[0].values())
    finally:
        os.close(entries)


def _list(entries: int) -> tuple[dict[str, Filed], int]:
    """Every file that may be an entry, and how many others there are. Raises OSError."""
    found, foreign = dict[str, Filed](), 0
    with os.scandir(entries) as listing:
        for item in itertools.islice(listing, 2 * MAX_FILES):
            with contextlib.suppress(FileNotFoundError):
                told = item.stat(follow_symlinks=False)
                if is_entry_name(item.name) and _is_ours(told) and len(found) < MAX_FILES:
                    found[item.name] = Filed(told.st_size, told.st_mtime_ns)
                else:
                    foreign += 1
    return found, foreign


def is_writable_file(told: os.stat_result) -> bool:
    """Whether it may be written in place: ours, plain, and nobody's under another name. An unpacked archive may hold a hard
    link to whatever is precious.
    """
    return _is_ours(told) and told.st_nlink <= 1


def _is_ours(told: os.stat_result) -> bool:
    return stat.S_ISREG(told.st_mode) and told.st_uid == os.geteuid()


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
