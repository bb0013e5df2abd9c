"""One turn at a time on a session: who holds it, what it does now, and how it ends early."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from sessiond.daemon.sessions.statuses import Busy
from sessiond.v1.errors import SessionBusy, SessiondError

GRACE_S = 0.2
"""How long a new turn waits for a running one, whose cancel may be on its way."""
ENDING_S = 5.0
"""How long it waits for one that is cancelled already."""
_STILL = frozenset({"fork", "score"})
"""Stages of turns that leave a session as it is."""


class Turns:
    """The gate of one session."""

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self._name = name
        self._changed = changed
        self._task: asyncio.Task[object] | None = None
        self._stage = ""
        self._done = self._total = 0
        self._began = 0.0
        self._over: SessiondError | None = None
        self._free = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether a turn is running."""
        return self._task is not None

    @property
    def changing(self) -> bool:
        """Whether a turn is running that may make something else of the session."""
        return self.running and self._stage not in _STILL

    @property
    def stage(self) -> str:
        """What the turn is at: "prefix", "suffix", "decode", "restore", "fork" or "score"."""
        return self._stage

    def busy(self) -> Busy | None:
        """What runs now."""
        if not self.running:
            return None
        return Busy(self._stage, self._done, self._total, (time.monotonic() - self._began) * 1e3)

    def note(self, stage: str, done: int, total: int) -> None:
        """The turn got on."""
        self._stage, self._done, self._total = stage, done, total

    def check_open(self) -> None:
        """Raises what ended the session, if something did."""
        if self._over is not None:
            raise self._over

    def end(self, why: SessiondError) -> None:
        """No more turns: every later one raises `why`, and a running one at its next step. Its task is not
        cancelled: it may be busy with something that is not the session's.
        """
        self._over = why
        self._free.set()

    async def ended(self, seconds: float) -> None:
        """Wait until no turn runs, at most that long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.running:
                    self._free.clear()
                    await self._free.wait()

    @contextlib.asynccontextmanager
    async def turn(self, stage: str) -> AsyncGenerator[None, None]:
        """Hold the session. Raises SessionBusy if another turn does, and what ended the session."""
        await self._wait_for_the_cancelled()
        self.check_open()
        if self.running:
            raise SessionBusy(self._name)
        self._task = asyncio.current_task()
        self._began = time.monotonic()
        self.note(stage, 0, 0)
        self._changed()
        try:
            yield
        finally:
            self._task = None
            self._free.set()
            self._changed()

    async def _wait_for_the_cancelled(self) -> None:
        # A client that cancels a turn and asks again at once must not be told that it is in its own way.
        await self.ended(GRACE_S)
        if self._task is not None and self._task.cancelling():
            await self.ended(ENDING_S)
