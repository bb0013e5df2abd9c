"""Opening what lies beneath a root, and nothing else.

Every part of a path is opened relative to its parent and without following links, so that no exchange of a
folder or a file for a link, at whatever moment, leads out of the root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sessiond.daemon.workspace.segment import LeftOut, shown
from sessiond.v1.errors import PermissionDenied, SessiondError, invalid

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_MOST_TOLD = 300
"""Characters of the root that an error shows."""


class NotRegularError(OSError):
    """What was opened is no regular file."""


class TooLargeError(OSError):
    """The file has more bytes than were asked for."""

    def __init__(self, size: int, told: str) -> None:
        super().__init__(0, told)
        self.size = size
        """As many as are known of; there are more if it grew while it was read."""


@contextmanager
def open_root(root: Path) -> Generator[int, None, None]:
    """A descriptor of the folder `root`, which may itself be a link.

    Raises InvalidInput on `workspace_root` if it is no absolute path of a folder, and PermissionDenied if it
    may not be read.
    """
    if not root.is_absolute():
        raise invalid("workspace_root", f"must be an absolute path: {_told(root)}")
    try:
        root_fd = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    except (OSError, ValueError) as error:
        raise root_refused(root, error) from error
    try:
        yield root_fd
    finally:
        os.close(root_fd)


def root_refused(root: Path, error: OSError | ValueError) -> SessiondError:
    """What to raise when opening or listing the root itself failed with `error`."""
    told = _told(root)
    if isinstance(error, PermissionError):
        return PermissionDenied(f"the workspace root may not be read: {told}")
    if isinstance(error, FileNotFoundError):
        return invalid("workspace_root", f"does not exist: {told}")
    if isinstance(error, NotADirectoryError):
        return invalid("workspace_root", f"is not a folder: {told}")
    why = error.strerror if isinstance(error, OSError) else str(error)
    return invalid("workspace_root", f"cannot be opened: {told}: {why}")


def _told(root: Path) -> str:
    """A path for an error, which travels in a header of limited size."""
    text = ascii(str(root))
    return text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + "…"


@contextmanager
def open_folder(root_fd: int, path: bytes) -> Generator[int, None, None]:
    """A descriptor of a folder beneath the root; an empty path is the root itself. Raises OSError."""
    folder_fd = os.dup(root_fd)
    try:
        for part in path.split(b"/") if path else ():
            parent_fd, folder_fd = folder_fd, os.open(part, _FOLDER, dir_fd=folder_fd)
            os.close(parent_fd)
        yield folder_fd
    finally:
        os.close(folder_fd)


def read_file(root_fd: int, path: bytes, limit: int) -> bytes:
    """All bytes of a regular file beneath the root. It may change while it is read: then they are a mixture.

    Raises TooLargeError if it has more than `limit` bytes, mostly without reading any, NotRegularError if it is
    something else than a file, and any other OSError as it comes.
    """
    parent, _, name = path.rpartition(b"/")
    with open_folder(root_fd, parent) as parent_fd:
        file_fd = os.open(name, _FILE, dir_fd=parent_fd)
    try:
        status = os.fstat(file_fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError(0, "not a regular file")
        if status.st_size > limit:
            raise TooLargeError(status.st_size, f"{status.st_size:,} bytes")
        content = _read_up_to(file_fd, limit + 1)
    finally:
        os.close(file_fd)
    if len(content) > limit:
        raise TooLargeError(len(content), f"more than {limit:,} bytes")
    return content


def _read_up_to(file_fd: int, most: int) -> bytes:
    """The file's bytes, at most `most`: its size may have changed since it was asked for."""
    pieces: list[bytes] = []
    while most > 0 and (piece := os.read(file_fd, most)):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def why_unread(path: bytes, error: OSError) -> LeftOut:
    """The entry for a file or folder whose opening or reading failed with `error`."""
    told = error.strerror or "it could not be read"
    if isinstance(error, TooLargeError):
        return LeftOut(shown(path), "too_large", told)
    if isinstance(error, NotRegularError):
        return LeftOut(shown(path), "special", "neither a file nor a folder")
    if isinstance(error, FileNotFoundError):
        return LeftOut(shown(path), "vanished", "it was gone when it was to be read")
    if error.errno == errno.ELOOP:
        return LeftOut(shown(path), "link", "it became a symbolic link while it was to be read")
    return LeftOut(shown(path), "unreadable", told)
