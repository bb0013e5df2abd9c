"""One kill: of whom, and at what moment. It falls by itself, from a thread, and notes what it found."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import psutil

from kills_disk import Labels, Written, remembered
from own_processes import daemon_of, engines_of

Target: TypeAlias = Literal["daemon", "engine", "both"]
Moment: TypeAlias = Literal["start", "return", "load", "write"]
"""While a daemon begins, while its sessions are asked for again, while clients work, while an entry is being written."""

TARGETS: tuple[Target, ...] = ("daemon", "engine", "both")
LONGEST_S: dict[Moment, float] = {"start": 2.0, "return": 1.0, "load": 4.0, "write": 1.0}
"""After the moment has begun."""
_ORDER: tuple[Moment, ...] = ("start", "return", "load", "write")
_MOMENTS: list[tuple[Moment, int]] = [("load", 6), ("write", 2), ("start", 1), ("return", 1)]
"""How often each is chosen."""
WRITE_PATIENCE_S = 3.0
"""How long a write is waited for; without one it falls all the same."""
_POLL_S = 0.0005


class Blow:
    """`doing` says what the clients are in the middle of; it is asked in the last moment before."""

    def __init__(
        self, folder: Path, target: Target, rng: Random, known: Labels, doing: Callable[[], list[str]]
    ) -> None:
        self.target: Target = target
        able = [each for each in _MOMENTS if target != "engine" or each[0] != "start"]
        [(self.moment, _)] = rng.choices(able, [often for _, often in able])
        self._delay = rng.random() * LONGEST_S[self.moment]
        self._daemon_first = rng.random() < 0.5
        self._folder, self._known, self._doing = folder, known, doing
        self._thread = threading.Thread(target=self._fall, name="blow", daemon=True)
        self._off = threading.Event()
        self.begun = threading.Event()
        """Set before anybody is killed: whatever fails from then on may be its work."""
        self.over = threading.Event()
        self.at = 0.0
        """When it fell, by `time.monotonic`."""
        self.killed = 0
        """How many processes."""
        self.hit: list[str] = []
        """What it struck."""
        self.written = Written()
        self.names: set[str] = set()
        """What stood on the disk then."""
        self.engines: list[psutil.Process] = []
        """Those of a daemon that died without them: they have to end by themselves."""

    def comes(self, moment: Moment) -> None:
        """This moment has begun: it falls in it, also if it was meant for an earlier one, which this daemon had before."""
        if _ORDER.index(self.moment) <= _ORDER.index(moment) and self._thread.ident is None:
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has fallen within the time."""
        return self.over.wait(seconds)

    def call_off(self) -> None:
        """Never fall, if it has not yet."""
        self._off.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _fall(self) -> None:
        if self._off.wait(self._delay):
            return
        state = self._folder / "state"
        if self.moment == "write":
            _until_one_is_written(state)
        self.hit = sorted({self.moment, *self._doing()})
        self.begun.set()
        self.at = time.monotonic()
        self._kill()
        self.written, self.names = Written.of(state, self._known), remembered(state)
        if self.written.unfinished:
            self.hit = sorted({*self.hit, "write"})
        self.over.set()

    def _kill(self) -> None:
        daemon = daemon_of(self._folder)
        if daemon is None:
            return
        engines = engines_of(daemon)
        first, last = ([daemon], engines) if self._daemon_first else (engines, [daemon])
        chosen = {"daemon": [daemon], "engine": engines, "both": [*first, *last]}[self.target]
        for process in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
                self.killed += 1
        if self.target == "daemon":
            self.engines = engines


def _until_one_is_written(state: Path) -> None:
    until = time.monotonic() + WRITE_PATIENCE_S
    folders = list(state.glob("kv/*/new"))
    while time.monotonic() < until:
        for folder in folders:
            with contextlib.suppress(OSError):
                if os.listdir(folder):  # noqa: PTH208 - a name is enough, and it has to be quick
                    return
        time.sleep(_POLL_S)
