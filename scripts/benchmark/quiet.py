"""Waits until a side's processes have finished what they do unasked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from sessiond.daemon.engine.loop import IDLE_S

STILL_S = IDLE_S + 0.1
"""After this long without work nothing more starts by itself: an engine that has been idle for `IDLE_S` looks for something to
keep, in memory or on the disk.
"""
AT_WORK = 0.05
"""Of one processor: who takes less only looks around now and then."""
_TICK_S = 0.05
_PROC = Path("/proc")
_WAITS_FOR_DISK = "D"
"""The kernel's word for a thread that cannot be woken up: such as one whose bytes are on their way to the disk."""


def wait_until_still(root: int, most_s: float) -> bool:
    """Return when the process `root` and those below it have been still; False if they never were in so many seconds."""
    until = time.monotonic() + most_s
    since, before = time.monotonic(), _seconds(root)
    while time.monotonic() < until:
        time.sleep(_TICK_S)
        now, spent = time.monotonic(), _seconds(root)
        # They have spent less where one of them has ended.
        if abs(spent - before) > AT_WORK * max(STILL_S, now - since) or _waits_for_disk(root):
            since, before = now, spent
        elif now - since >= STILL_S:
            return True
    return False


def _seconds(root: int) -> float:
    """Of processors, by all of them."""
    return sum(_own(process) for process in _family(root))


def _own(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _waits_for_disk(root: int) -> bool:
    """Whether a thread of one of them does: that takes no processor, and more work may come after it. Seen on Linux alone."""
    return any(_WAITS_FOR_DISK in _states(process.pid) for process in _family(root))


def _states(pid: int) -> Iterator[str]:
    for stat in (_PROC / str(pid) / "task").glob("*/stat"):
        with suppress(OSError):
            # The name before it stands in brackets, and may have some of its own.
            yield stat.read_text("utf-8", "replace").rpartition(")")[2].split()[0]


def _family(root: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(root)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
