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
    """Make the folder and those above it that are missing, for us alone. `what` names it in the errors.

    With `close` one that is there already is closed to others. Raises NotPrivate where it is no folder (a link is none),
    belongs to another user, or can be written to by others.
    """
    try:
        for folder in reversed([above for above in (path, *path.parents) if not os.path.lexists(above)]):
            with contextlib.suppress(FileExistsError):  # somebody was quicker, and is looked at below
                folder.mkdir(mode=OURS)
        opened = os.open(path, _FOLDER)
    except OSError as error:
        raise NotPrivate(f"{what} cannot be used: {path}: {error.strerror}") from error
    try:
        _check(opened, path, what, close=close)
    finally:
        os.close(opened)


def _check(opened: int, path: Path, what: str, *, close: bool) -> None:
    told = os.fstat(opened)
    if told.st_uid != os.geteuid():
        raise NotPrivate(f"{what} belongs to another user: {path}")
    if told.st_mode & 0o022:
        raise NotPrivate(f"others can write to {what}: {path} (chmod go-w closes it)")
    if close and told.st_mode & 0o077:
        os.fchmod(opened, OURS)
