"""How much of the machine others had during a measurement: a figure from a busy machine says little."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import psutil


class OtherLoad:
    """The share of all cores that others had, since this was made: processes which are not ours, and, on a virtual machine,
    whatever its host ran in our place.
    """

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._began = time.monotonic()
        self._busy, self._ours = _busy(), self._own()

    def share(self) -> float:
        """0 is a machine of our own, 1 is one that others had for themselves."""
        there_was = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        others = (_busy() - self._busy) - (self._own() - self._ours)
        return min(1.0, max(0.0, others / there_was)) if there_was else 0.0

    def _own(self) -> float:
        """Seconds of this process and all below it, those that ended and were waited for among them."""
        return sum(_seconds(process) for process in [self._me, *self._me.children(recursive=True)])


def _seconds(process: psutil.Process) -> float:
    try:
        return _total(process.cpu_times()[:4])  # user, system, and the same of children that were waited for
    except psutil.NoSuchProcess:
        return 0.0


def _busy() -> float:
    """Seconds of all cores in which something ran, or could not run since a virtual machine's host took them away. Such
    stolen time is told on Linux alone, and is in no process's own times.
    """
    times = psutil.cpu_times()
    where_told = [getattr(times, name, 0.0) for name in ("nice", "softirq", "steal")]
    return _total([times.user, times.system, *where_told])


def _total(seconds: Sequence[float]) -> float:
    return float(sum(seconds))
