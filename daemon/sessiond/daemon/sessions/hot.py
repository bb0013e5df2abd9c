"""Keep-hot: after a save the prefix is assembled anew and prefilled in the background, on a branch of its own.

The branch stands in the tree of the sessions that it serves, so that whatever it has computed is theirs at their next
EnsurePrefix, also where they ask before it is done. Nothing of theirs moves before that. A newer save ends a run; what
the two have in common stays. A run goes on through the frame in which a question will stand, so that the first question
after a save has no more to compute than the next one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.engine.seat import AGAIN
from sessiond.daemon.sessions.branch import Branch
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.events import KeepHotRan, PrefillProgressed, What
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.v1.errors import SessiondError

log = structlog.get_logger(__name__)

STAGE = "keep_hot"
"""Of its progress."""
COURTESY_S = 0.25
"""How long a run waits for the end of a turn before it begins. Who asks at once after a save has the files read by that turn;
to read them again meanwhile takes a processor away from it. A turn that takes longer goes on beside the run.
"""


@dataclass(slots=True)
class _Run:
    """One background prefill."""

    prefix: Prefix
    began: float
    """When the first change came that it answers, by `time.monotonic`."""
    done: int = 0
    """Tokens of the prefix and the frame after it that are computed, those that were reused included."""
    reused: int | None = None
    """How many of them were there already."""

    @property
    def prefilled(self) -> int:
        """Tokens that it computed."""
        return self.done - (self.reused or 0)


class KeepHot:
    """Keeps one prefix up to date: that of all sessions which would be given the same. In the daemon's event loop."""

    def __init__(
        self, home: Home, assemble: Callable[[], Awaitable[Prefix]], tell: Callable[[What], None], calm: Calm
    ) -> None:
        self._home = home
        self._assemble = assemble
        self._tell = tell
        self._calm = calm
        self._branch = Branch(home, f"hot-{secrets.token_hex(6)}", background=True)
        self._hot: list[int] | None = None
        """The tokens that the branch was brought to."""
        self._began = 0.0
        self._rising = False
        """A run has begun that will go to whichever engine stands when it comes to that."""
        self._deaths = 0
        """Engines that died in a run since one came to its end, or something changed."""
        self._changed = asyncio.Event()
        self.state = "idle"
        """"idle", "waiting" or "running"."""
        self.up_to_date = True
        """Whether all that changed is answered. What is idle and not up to date has failed, or had to give way."""
        self._task = asyncio.create_task(self._keep())

    def changed(self, began: float) -> None:
        """Something changed at this moment, by `time.monotonic`. Never waits."""
        self._deaths = 0
        self._again(began)

    def gone(self) -> None:
        """Another engine stands, and nothing of the prefix is in its cells: bring it back, unless that is what kills. Never
        waits. Also if the run before came to nothing, since no engine could be started.
        """
        self._hot = None
        if self._deaths <= AGAIN and not self._rising:
            self._again(time.monotonic())

    def _again(self, began: float) -> None:
        if not self._changed.is_set():
            self._began = began
            self._changed.set()
        self.up_to_date = False
        if self.state == "idle":
            self.state = "waiting"

    def stands(self, prefix: Prefix) -> None:
        """A session was brought to this prefix: nothing is to be done for it."""
        # Else a run is due or under way, which computes the frame of a question too.
        if self.state == "idle":
            self._hot = prefix.tokens

    async def stop(self) -> None:
        """End what runs, and free the branch."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)  # whatever it ended with, its branch goes
        await self._branch.close()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            await self._calm.wait()
            await self._home.memory.at_rest(self._home.engine, self._home.arena, COURTESY_S)
            self._changed.clear()
            self.state = "running"
            try:
                await self._bring_up(self._began)
                self._deaths = 0
            except EngineDied as died:
                self._survive(died)
            except (EngineFailed, SessiondError, OSError) as failed:
                # Nobody waits for it: the next request says what is wrong, and the next save tries again.
                log.warning("keep_hot.failed", error=str(failed))
            finally:
                self.state = "waiting" if self._changed.is_set() else "idle"

    def _survive(self, died: EngineDied) -> None:
        """Try again, but not for ever: it may be this prefix that kills."""
        self._hot = None
        self._deaths += 1
        log.warning("keep_hot.engine_died", cause=died.cause, deaths=self._deaths)
        if self._deaths <= AGAIN:
            self._again(self._began)

    async def _bring_up(self, began: float) -> None:
        self._rising = True
        try:
            prefix = await self._assemble()
            if prefix.tokens == self._hot:
                self.up_to_date = not self._changed.is_set()
                return
            engine = await self._branch.stand()
        finally:
            self._rising = False
        run = _Run(prefix, began)
        async with self._home.memory.background(engine, self._home.arena) as must_stop:
            self._tell(KeepHotRan("started", 0, 0.0))
            job = asyncio.create_task(self._prefill(engine, run))
            newer = asyncio.create_task(self._changed.wait())
            stop = asyncio.create_task(must_stop.wait())
            try:
                await asyncio.wait({job, newer, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (job, newer, stop):
                    task.cancel()
                [outcome, *_] = await asyncio.gather(job, newer, stop, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            self._hot = None
            self._tell(KeepHotRan("superseded", run.prefilled, 0.0))
        elif isinstance(outcome, BaseException):
            self._hot = None
            raise outcome
        else:
            self._hot = prefix.tokens
            self.up_to_date = not self._changed.is_set()
            lag_ms = (time.monotonic() - began) * 1e3
            log.info(
                "keep_hot.finished", tokens=len(prefix.tokens), prefilled=outcome.prefilled, lag_ms=lag_ms
            )
            self._tell(KeepHotRan("finished", outcome.prefilled, lag_ms))

    async def _prefill(self, engine: Engine, run: _Run) -> wire.Advanced:
        def told(done: int, total: int) -> None:
            run.reused = done if run.reused is None else run.reused
            run.done = done
            self._tell(PrefillProgressed(STAGE, done, total))

        prefix = run.prefix
        borders = [segment.token_end for segment in prefix.manifest.segments]
        target = [*prefix.tokens, *prefix.next_frame][: self._home.settings.num_ctx]
        return await engine.advance(
            self._branch.name, target, told, lambda _held: None, borders=borders, background=True
        )
