"""A prompt as a function, for the client for asyncio."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Generic, TypeVar, cast

from sessiond.client.aio.link import Link
from sessiond.client.aio.stream import AsyncStream
from sessiond.client.calls import functions
from sessiond.client.values import Progress, said_in, value_of
from sessiond.v1 import context_pb2
from sessiond.v1 import function_service_pb2 as pb

Value_co = TypeVar("Value_co", covariant=True)


class AsyncFunction(Generic[Value_co]):
    """A function of the daemon: `await classify("text")` is its value. It lives in the daemon: dropping this object ends nothing,
    `delete` does.

    A value is a str; with a JSON schema it is what the answer describes. `defined` is what the daemon said at its definition.
    """

    def __init__(self, link: Link, defined: pb.Function) -> None:
        self._link = link
        self.defined = defined
        self.name = defined.name

    def __repr__(self) -> str:
        return f"AsyncFunction({self.name!r})"

    async def __call__(self, argument: str, *, timeout: float | None = None) -> Value_co:
        """The value for an argument; a text may end at the `max_tokens` or the stop text that the function was defined with.
        Raises IncompleteValue where one of these cut off a choice or what a schema or grammar describes, or where the window
        was full; and FunctionNotFound once it was deleted.
        """
        async with self._link.stream(functions.call_function(self.name, argument), timeout) as chunks:
            return self._value(*said_in([chunk async for chunk in chunks]))

    def stream(self, argument: str, *, timeout: float | None = None) -> AsyncStream[str]:
        """The answer to an argument as text, as it comes."""
        return self._link.stream(functions.function_text(self.name, argument), timeout)

    async def map(
        self, arguments: Iterable[str], *, progress: Progress | None = None, timeout: float | None = None
    ) -> AsyncGenerator[Value_co, None]:
        """The values for arguments, in their order. They are made side by side; `progress` hears of each that ends."""
        waiting: dict[int, Value_co] = {}
        every, at, done = list(arguments), 0, 0
        async with contextlib.aclosing(self.as_ended(every, timeout=timeout)) as ended:
            async for index, value in ended:
                waiting[index], done = value, done + 1
                if progress is not None:
                    progress(done, len(every))
                while at in waiting:
                    yield waiting.pop(at)
                    at += 1

    async def as_ended(
        self, arguments: Iterable[str], *, timeout: float | None = None
    ) -> AsyncGenerator[tuple[int, Value_co], None]:
        """The values for arguments, each with the argument's index, as they end. Closing this ends what still runs.
        Raises IncompleteValue at the first that was cut off.
        """
        for start, batch in functions.batches(arguments):
            async with self._link.stream(functions.map_function(self.name, batch), timeout) as answers:
                async for answer in answers:
                    yield start + answer.index, self._value(answer.value, answer.summary)

    async def delete(self, *, timeout: float | None = None) -> None:
        """Delete the function in the daemon. Calls that run are answered to their end."""
        await self._link.unary(functions.delete_function(self.name), timeout)

    def _value(self, text: str, summary: context_pb2.DecodeSummary) -> Value_co:
        value: Any = value_of(self.name, self.defined.config, text, summary)
        return cast("Value_co", value)
