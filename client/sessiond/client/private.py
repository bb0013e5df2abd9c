"""What the client makes for the daemon, for this user alone: the log, and the folders on the way to it.

Not the daemon's rule, which is the stricter one: the daemon looks at every folder that it is given and refuses what others
could write to (its `private.py`), so here nothing is refused that it would refuse, and say why. Nor is it the contract's.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from sessiond.v1.errors import PermissionDenied


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, mode 0700. Raises OSError."""
    for folder in reversed([above for above in (path, *path.parents) if not os.path.lexists(above)]):
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            folder.mkdir(mode=0o700)


def open_log(path: Path) -> int:
    """A file to append to, mode 0600. Raises PermissionDenied if it is not a plain file of this user; OSError."""
    # Without O_NONBLOCK, opening a pipe that somebody put there would wait for a reader.
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        told = os.fstat(log)
        if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid():
            raise PermissionDenied(f"the log is not a plain file of this user: {path}")
        os.fchmod(log, 0o600)
    except BaseException:
        os.close(log)
        raise
    return log
