"""Folders that are this user's alone: made so, and refused where somebody else could put something there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

OURS = 0o700
UMASK = 0o077
"""What files and folders of the daemon are made with, whatever it was started with: nobody else has any right."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPrivate(Exception):
    """A folder cannot be ours alone, and why."""


def private_folder(path: Path, what: str, *, close: bool) -> None:
    """Make the folder and those above it that are missing, for us alone. The rest is as in `open_private`."""
    try:
        make_folders(path)
    except OSError as error:
        raise NotPrivate(f"{what} cannot be used: {path}: {error.strerror}") from error
    os.close(open_private(path, what, close=close))


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, for us alone. Each is on the disk before there is anything in it:
    a power cut would take what was forced into it. Raises OSError.
    """
    for folder in reversed([above for above in (path, *path.parents) if not os.path.lexists(above)]):
        with contextlib.suppress(FileExistsError):  # somebody was quicker, and is looked at when it is opened
            folder.mkdir(mode=OURS)
            _settle(folder.parent)


def open_private(path: Path, what: str, *, close: bool, within: int | None = None) -> int:
    """Open a folder, relative to the open one `within` if there is one. `what` names it in the errors.

    With `close` one that others can read is closed to them. Raises NotPrivate where it is no folder (a link is none),
    belongs to another user, or can be written to by others.
    """
    try:
        opened = os.open(path, _FOLDER, dir_fd=within)
        try:
            _check(opened, path, what, close=close)
        except BaseException:
            os.close(opened)
            raise
    except OSError as error:
        raise NotPrivate(f"{what} cannot be used: {path}: {error.strerror}") from error
    return opened


def _check(opened: int, path: Path, what: str, *, close: bool) -> None:
    told = os.fstat(opened)
    if told.st_uid != os.geteuid():
        raise NotPrivate(f"{what} belongs to another user: {path}")
    if told.st_mode & 0o022:
        raise NotPrivate(f"others can write to {what}: {path} (chmod go-w closes it)")
    if close and told.st_mode & 0o077:
        os.fchmod(opened, OURS)


def _settle(path: Path) -> None:
    """Force a folder to the disk, if it may be opened: one that others own may be closed to reading."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
