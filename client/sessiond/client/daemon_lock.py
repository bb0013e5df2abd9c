"""The daemon's lock file, `<socket>.lock`: who runs on a socket, and how to end it.

The daemon holds an exclusive `flock` on it for as long as it lives, and writes its process id on the first line. The
file outlives the daemon; only the lock says that one runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

from sessiond.v1.errors import PermissionDenied, SessionUnavailable

_POLL_SECONDS = 0.05


def lock_path(socket: Path) -> Path:
    """The lock file of the daemon on this socket."""
    return socket.with_name(socket.name + ".lock")


def is_locked(socket: Path) -> bool:
    """Whether a daemon holds the lock of this socket."""
    try:
        with lock_path(socket).open("rb") as file:
            # Shared, so that two that look at once do not take each other for the daemon.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def running_pid(socket: Path) -> int | None:
    """The process id of the daemon on this socket; None if none runs, or if it has not written its id yet."""
    if not is_locked(socket):
        return None
    first = lock_path(socket).read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 1 else None


def stop_daemon(socket: Path, timeout: float = 30.0) -> int | None:
    """Ask the daemon on this socket to end, and wait until it has. Returns its process id, None if none ran.

    Raises TimeoutError if it still runs after `timeout` seconds, PermissionDenied if it is another user's, and
    SessionUnavailable if it holds the lock and does not say its id.
    """
    until = time.monotonic() + timeout
    pid = running_pid(socket)
    while pid is None:
        if not is_locked(socket):
            return None
        if time.monotonic() > until:
            raise SessionUnavailable(
                f"a daemon holds {lock_path(socket)}, which does not tell its process id"
            )
        time.sleep(_POLL_SECONDS)
        pid = running_pid(socket)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended by itself; its lock is free in a moment
    except PermissionError as error:
        raise PermissionDenied(f"the daemon on {socket} is another user's process, {pid}") from error
    while is_locked(socket):
        if time.monotonic() > until:
            raise TimeoutError(
                f"the daemon, process {pid}, still runs {timeout:g} seconds after it was asked to end"
            )
        time.sleep(_POLL_SECONDS)
    return pid
