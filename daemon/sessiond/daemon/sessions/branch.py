"""A branch of the engine that stands, over the deaths of engines.

Every job carries all of its tokens. So a job whose engine died is sent again, to a new engine on which the branch was opened
before; what of its KV is on the disk comes back, and the rest is computed. A fork is opened as any other: what it shares
with its parent is in the tree.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Generation, Held, Moved, Told
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.engine.seat import AGAIN
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.opening import open_branch
from sessiond.v1.errors import SessionClosed

log = structlog.get_logger(__name__)

T = TypeVar("T")

Patience = Callable[[], float | None]
"""Seconds until whoever asked gives up; None if nobody says."""


def _nobody(_resident: int, _in_memory: int) -> None:
    """Nobody hears when it moves."""


class Branch:
    """See the module. In the daemon's event loop; one job at a time."""

    def __init__(
        self,
        home: Home,
        name: str,
        moved: Moved = _nobody,
        check: Callable[[], None] = lambda: None,
        *,
        is_open: bool = False,
        background: bool = False,
        keeps: int | None = None,
        yields: bool = False,
    ) -> None:
        self.name = name
        self._home = home
        self._moved = moved
        self._check = check
        """Raises if nothing is to be done on it any more."""
        self._background = background
        self._keeps = keeps
        """How many of its tokens outlive it; None for all."""
        self._yields = yields
        """Whether others may have its cells while it is idle, and what was there is computed again."""
        self._on: Engine | None = None
        """Where it is open."""
        self._opening: asyncio.Task[None] | None = None
        self._closed = False
        self._left = AGAIN
        """How many engines may still die in this turn."""
        self._cells = contextlib.AsyncExitStack()
        self._cells_on: Engine | None = None
        """Where cells are held for the turn."""
        if is_open:
            self._opened_on(home.engine)

    async def stand(self) -> Engine:
        """The engine that stands, with this branch open on it. Raises EngineDied, EngineFailed, and as `Seat.standing` and
        `open_branch`.
        """
        engine = await self._home.seat.standing()
        self._check()
        while self._on is not engine:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open(engine))
                self._opening.add_done_callback(_heard)
            # Shielded: whoever is cancelled here must not leave a branch of which nobody knows whether it is open.
            await asyncio.shield(self._opening)
            self._check()
            if self._closed:
                raise SessionClosed(self.name)
        return engine

    async def _open(self, engine: Engine) -> None:
        home = self._home
        await open_branch(
            *(home.memory, engine, self.name, home.arena, home.root, home.settings),
            background=self._background,
            apart=home.apart,
            keeps=self._keeps,
            yields=self._yields,
        )
        if self._closed:
            await engine.close(self.name)
        else:
            self._opened_on(engine)

    def _opened_on(self, engine: Engine) -> None:
        self._on = engine
        engine.listen(self.name, self._moved)

    def interrupt(self) -> None:
        """End the job that runs on it."""
        if self._on is not None:
            self._on.interrupt(self.name)

    async def close(self) -> None:
        """Forget it. Never waits for an engine that is started."""
        self._closed = True
        if self._on is not None:
            with contextlib.suppress(EngineDied, EngineFailed):
                await self._on.close(self.name)

    # Turns. Within one, AGAIN engines may die.

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Hold cells for a turn. Raises as `stand`, and SessionUnavailable if there is no memory for them."""
        self._left = AGAIN
        async with self._cells:
            try:
                await self._outliving(_nothing)
                yield
            finally:
                self._cells_on = None

    async def advance(
        self,
        tokens: Sequence[int],
        told: Told,
        held: Held,
        borders: Sequence[int],
        patience: Patience,
    ) -> wire.Advanced:
        """As `Engine.advance`, within a turn."""
        return await self._outliving(
            lambda engine: engine.advance(
                self.name, tokens, told, held, borders=borders, patience_s=patience()
            )
        )

    async def generate(
        self, tokens: Sequence[int], wish: Generation, told: Told, held: Held, patience: Patience
    ) -> AsyncGenerator[wire.Reached | wire.Piece | wire.Generated, None]:
        """As `Engine.generate`, within a turn; a leg is told once, also where its engine died and it is gone again. Raises
        EngineDied once something of the answer was told: to tell it again would be wrong where sampling came out otherwise.
        """
        begun = False
        while True:
            try:
                engine = await self._ready()
                wish = replace(wish, patience_s=patience())
                async with contextlib.aclosing(
                    engine.generate(self.name, tokens, wish, held, told)
                ) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, wire.Reached):
                            wish = replace(wish, legs=wish.legs[1:])
                        else:
                            begun = True
                        yield piece
            except EngineDied as died:
                if begun:
                    raise
                self._survive(died)
            else:
                return

    async def weigh(self, tokens: Sequence[int], more: Sequence[int], patience: Patience) -> wire.Weighed:
        """As `Engine.weigh`, within a turn."""
        return await self._outliving(lambda engine: engine.weigh(self.name, tokens, more, patience()))

    async def fork(self, child: str) -> None:
        """Open another branch where this one stands. Raises as `stand`."""
        self._left = AGAIN
        home = self._home
        while True:
            try:
                engine = await self.stand()
                await engine.open(child, home.arena, home.settings, parent=self.name)
            except EngineDied as died:
                self._survive(died)
            else:
                # Another one may stand already, on which the child is not open.
                if self._home.engine is engine:
                    return

    async def _outliving(self, act: Callable[[Engine], Awaitable[T]]) -> T:
        while True:
            try:
                return await act(await self._ready())
            except EngineDied as died:
                self._survive(died)

    async def _ready(self) -> Engine:
        """The engine that stands, with the branch open and its cells held."""
        engine = await self.stand()
        if self._cells_on is not engine:
            await self._cells.aclose()
            await self._cells.enter_async_context(self._home.memory.turn(engine, self._home.arena))
            self._cells_on = engine
        return engine

    def _survive(self, died: EngineDied) -> None:
        if not self._left:
            raise died
        self._left -= 1
        log.warning("turn.sent_again", branch=self.name, cause=died.cause, tries_left=self._left)


async def _nothing(_engine: Engine) -> None:
    """A turn that begins: nothing is to be done yet."""


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever waited may have been cancelled: then nobody else asks how it ended."""
    if not task.cancelled():
        task.exception()
