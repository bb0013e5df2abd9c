"""A function: what was defined, and its body, as long as that stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.functions.body import Body, Packed
from sessiond.daemon.functions.definition import Definition
from sessiond.daemon.sessions.statuses import Timings
from sessiond.v1.errors import FunctionNotFound, SessionFatal


class Function:
    """In the daemon's event loop. `take` makes a body of it; it raises as `Body.take`."""

    def __init__(self, definition: Definition, take: Callable[[], Awaitable[Body]]) -> None:
        self.definition = definition
        self._take = take
        self._body: Body | None = None
        self._standing = asyncio.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def body_tokens(self) -> int:
        """Tokens before an argument; 0 as long as nobody has counted them."""
        return 0 if self._body is None else len(self._body.tokens)

    @property
    def seat(self) -> Seat | None:
        """What it stands on."""
        return None if self._body is None else self._body.seat

    async def standing(self) -> Body:
        """Its body. After a restart it is made when it is first wanted. Raises as `Body.take`, and FunctionNotFound if it was
        deleted meanwhile.
        """
        async with self._standing:
            if self._closed:
                raise FunctionNotFound(self.name)
            if self._body is None:
                body = await self._take()
                if self._is_closed():
                    await body.close()
                    raise FunctionNotFound(self.name)
                self._body = body
            return self._body

    def _is_closed(self) -> bool:
        return self._closed

    async def prepared(
        self, arguments: Sequence[str], timings: Timings, *, alone: bool = False
    ) -> tuple[Body, list[Packed]]:
        """Its body, hot, and the tokens of these arguments, all of which fit; one that is `alone` needs no index in an error.

        Raises ContextOverflow before anything is computed, and as `standing`.
        """
        body = await self.standing()
        try:
            return body, await _made_ready(body, arguments, timings, alone=alone)
        except SessionFatal:
            # Its engine died, and its model is another one since: what the tokens were says nothing any more.
            await self._forget(body)
        body = await self.standing()
        return body, await _made_ready(body, arguments, timings, alone=alone)

    async def close(self) -> None:
        """Give back what keeps it hot."""
        self._closed = True
        if self._body is not None:
            await self._forget(self._body)

    async def _forget(self, body: Body) -> None:
        if self._body is body:
            self._body = None
        await body.close()


async def _made_ready(body: Body, arguments: Sequence[str], timings: Timings, *, alone: bool) -> list[Packed]:
    began = time.monotonic()
    tokens = await body.tokens_of(arguments)
    timings.tokenize_ms += (time.monotonic() - began) * 1e3
    if alone and (overflow := body.overflow(len(tokens[0]))):
        raise overflow
    body.check_all(tokens)
    await body.rise(timings.patience)
    return tokens
