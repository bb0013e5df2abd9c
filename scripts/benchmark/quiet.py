"""When the programs of a side have ended what they do by themselves."""

from __future__ import annotations

import time

import psutil

STILL_S = 0.35
"""Without work for so long, nothing is to come by itself any more: the engine looks for something to keep, in memory or on the
disk, a quarter of a second after its last work.
"""
AT_WORK = 0.05
"""Of one processor: who takes less only looks around now and then."""
_TICK_S = 0.05


def wait_until_still(root: int, most_s: float) -> bool:
    """Return when the process `root` and those below it have been still; False if they never were in so many seconds."""
    until = time.monotonic() + most_s
    since, before = time.monotonic(), _seconds(root)
    while time.monotonic() < until:
        time.sleep(_TICK_S)
        now, spent = time.monotonic(), _seconds(root)
        if spent - before > AT_WORK * max(STILL_S, now - since):
            since, before = now, spent
        elif now - since >= STILL_S:
            return True
    return False


def _seconds(root: int) -> float:
    """Of processors, by all of them."""
    try:
        top = psutil.Process(root)
        return sum(_own(process) for process in [top, *top.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0.0


def _own(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
