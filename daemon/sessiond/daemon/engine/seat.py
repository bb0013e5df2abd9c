"""What sessions stand on: the engine of one key, whichever process it is now.

An `Engine` ends with its process. A seat goes on with the next one, which the pool loads once for all who wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

import structlog

from sessiond.adapters.base import ModelFacts
from sessiond.daemon.engine.engine import Engine, Framing
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.process import EngineDied
from sessiond.v1.errors import InvalidInput, SessiondError, SessionFatal, SessionUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

AGAIN = 2
"""How often a turn goes on with a new engine: a disk entry that kills is set aside at its second death, so that the third
engine does without; and what kills three is not sent to a fourth.
"""

MODEL_CHANGED = "the engine died, and its model has changed since it was loaded"
"""Why sessions of a seat are over."""


class Seat:
    """See the module. In the daemon's event loop. The pool makes it."""

    def __init__(
        self,
        key: EngineKey,
        engine: Engine,
        get: Callable[[EngineKey], Awaitable[Engine]],
        on_next: Callable[[Seat], None],
    ) -> None:
        self.key = key
        self.engine = engine
        """The one that stands, or the one that stood last."""
        self._get = get
        self._on_next = on_next
        """Hears when the next one stands."""
        self._starting: asyncio.Task[None] | None = None

    @property
    def facts(self) -> ModelFacts:
        """Of the model."""
        return self.engine.facts

    async def standing(self) -> Engine:
        """An engine that stands.

        Raises SessionUnavailable if none can be started now, SessionFatal if it would be another model: then the tokens of
        its sessions mean something else.
        """
        if self.engine.process.ended is None:
            return self.engine
        try:
            found = await self._get(self.key)
        except InvalidInput as error:
            raise SessionUnavailable(f"the engine died and cannot be started again: {error}") from error
        if not self.takes(found):
            raise SessionFatal(MODEL_CHANGED)
        return self.engine

    def takes(self, found: Engine) -> bool:
        """Go on with this engine; no if it has another model."""
        if found is self.engine:
            return True
        if _is_other(self.engine.facts, found.facts):
            return False
        self.engine = found
        self._on_next(self)
        return True

    def start_again(self) -> None:
        """Have the next engine started now, so that nobody has to wait for it. Never waits, and fails quietly."""
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start_again(), name=f"start {self.key.model} again")

    async def _start_again(self) -> None:
        try:
            # The one that was waited for may have died before this could go on, and nobody else starts another.
            while self.engine.process.ended is not None:
                await self.standing()
        except SessiondError as refused:
            log.warning("engine.not_started_again", model=self.key.model, error=str(refused))

    async def outliving(self, act: Callable[[Engine], Awaitable[T]]) -> T:
        """Do it, and again if the engine dies meanwhile. Raises EngineDied when it has died of that too often, and as
        `standing`.
        """
        for _ in range(AGAIN):
            with contextlib.suppress(EngineDied):
                return await act(await self.standing())
        return await act(await self.standing())

    async def tokenize(self, texts: Sequence[str], *, parse_special: bool = False) -> list[list[int]]:
        """As `Engine.tokenize`. Raises as `outliving`."""
        return await self.outliving(lambda engine: engine.tokenize(texts, parse_special=parse_special))

    async def framing(self, prompt_format: str, roles: Sequence[str]) -> Framing:
        """As `Engine.framing`. Raises as `outliving`."""
        return await self.outliving(lambda engine: engine.framing(prompt_format, roles))


Texts: TypeAlias = Engine | Seat
"""What makes tokens of texts."""


def _is_other(one: ModelFacts, two: ModelFacts) -> bool:
    def told(facts: ModelFacts) -> tuple[str, ...]:
        return facts.backend, facts.backend_version, facts.model_digest, facts.vocab.digest

    return told(one) != told(two)
