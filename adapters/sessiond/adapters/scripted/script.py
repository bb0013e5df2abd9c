"""What happens on cue: time that passes, and the death of the process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_LOAD_STEPS = 10


@dataclass(frozen=True, slots=True)
class Death:
    """The signal that ends the process, and when."""

    signal: signal.Signals
    at_load: bool = False
    at_decode: int = 0
    """Number of the decode call that dies, from 1; 0 for none."""
    at_restore: bool = False
    """Whenever KV is put in that was computed before: imitates an entry on a disk that kills."""
    needs_extra_buffers: bool = False
    """Only while weights may be repacked: imitates a kernel that faults."""

    @classmethod
    def parse(cls, text: str) -> Death:
        """Read `SIGNAL@where`. Raises ValueError."""
        name, _, where = text.partition("@")
        if name not in signal.Signals.__members__:
            raise ValueError(f"{name!r} is no signal of this system")
        number = signal.Signals[name]
        if where == "load":
            return cls(number, at_load=True)
        if where == "restore":
            return cls(number, at_restore=True)
        if where == "first-decode":
            return cls(number, at_decode=1, needs_extra_buffers=True)
        kind, _, count = where.partition(":")
        if kind == "decode" and count.isascii() and count.isdigit() and int(count) > 0:
            return cls(number, at_decode=int(count))
        raise ValueError(f"{where!r} is none of load, restore, first-decode and decode:N")


class Script:
    """Plays the cues of one loaded model. Decode calls of all its contexts count together."""

    def __init__(self, death: Death | None, *, step_ms: float, load_ms: float, extra_buffers: bool) -> None:
        spared = death is not None and death.needs_extra_buffers and not extra_buffers
        self._death = None if spared else death
        self._step_s = step_ms / 1000
        self._load_s = load_ms / 1000
        self._decodes = 0

    def load(self, progress: Callable[[float], None]) -> None:
        """Take the time of loading and tell `progress` shares of 1. May end the process, half way."""
        for step in range(1, _LOAD_STEPS + 1):
            if self._load_s:
                time.sleep(self._load_s / _LOAD_STEPS)
            progress(step / _LOAD_STEPS)
            if self._death and self._death.at_load and step == _LOAD_STEPS // 2:
                os.kill(os.getpid(), self._death.signal)

    def decode(self) -> None:
        """One call that computes begins. May end the process."""
        self._decodes += 1
        if self._death and self._death.at_decode == self._decodes:
            os.kill(os.getpid(), self._death.signal)

    def restore(self) -> None:
        """KV is about to be put in. May end the process."""
        if self._death and self._death.at_restore:
            os.kill(os.getpid(), self._death.signal)

    def micro_batch(self, aborted: threading.Event) -> bool:
        """Take the time of one micro-batch. False as soon as `aborted` is set: then it was not finished."""
        if self._step_s:
            return not aborted.wait(self._step_s)
        return not aborted.is_set()
