"""The processes of a daemon that a script started: found by what they were started with."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil

_ENGINE = "sessiond.daemon.engine"


def daemon_of(folder: Path) -> psutil.Process | None:
    """The daemon that this process started on the socket in the folder; None if there is none."""
    return next((each for each in psutil.Process().children() if str(folder / "d.sock") in _said(each)), None)


def engines_of(daemon: psutil.Process) -> list[psutil.Process]:
    """Its engines, and none of its other children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [each for each in daemon.children() if _ENGINE in _said(each)]
    return []


def is_gone(process: psutil.Process, seconds: float) -> bool:
    """Whether a process ends within the time. A zombie has ended."""
    until = time.monotonic() + seconds
    while process.is_running():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _said(process: psutil.Process) -> list[str]:
    """The words that it was started with; none of one that is no more."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return list(process.cmdline())
    return []
