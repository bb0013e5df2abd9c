"""A prompt as a function, for the blocking client."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from typing import Any, Generic, TypeVar, cast

from sessiond.client.calls import functions
from sessiond.client.sync.link import Link
from sessiond.client.sync.stream import Stream
from sessiond.client.values import Progress, said_in, value_of
from sessiond.v1 import context_pb2
from sessiond.v1 import function_service_pb2 as pb

Value_co = TypeVar("Value_co", covariant=True)


class Function(Generic[Value_co]):
    """A function of the daemon: `classify("text")` is its value. It lives in the daemon: dropping this object ends nothing,
    `delete` does.

    A value is a str; with a JSON schema it is what the answer describes. `defined` is what the daemon said at its definition.
    """

    def __init__(self, link: Link, defined: pb.Function) -> None:
        self._link = link
        self.defined = defined
        self.name = defined.name

    def __repr__(self) -> str:
        return f"Function({self.name!r})"

    def __call__(self, argument: str, *, timeout: float | None = None) -> Value_co:
        """The value for an argument; a text may end at the `max_tokens` or the stop text that the function was defined with.
        Raises IncompleteValue where one of these cut off a choice or what a schema or grammar describes, or where the window
        was full; and FunctionNotFound once it was deleted.
        """
        with self._link.stream(functions.call_function(self.name, argument), timeout) as chunks:
            return self._value(*said_in(chunks))

    def stream(self, argument: str, *, timeout: float | None = None) -> Stream[str]:
        """The answer to an argument as text, as it comes."""
        return self._link.stream(functions.function_text(self.name, argument), timeout)

    def map(
        self, arguments: Iterable[str], *, progress: Progress | None = None, timeout: float | None = None
    ) -> Generator[Value_co, None, None]:
        """The values for arguments, in their order. They are made side by side; `progress` hears of each that ends."""
        waiting: dict[int, Value_co] = {}
        every, at = list(arguments), 0
        with contextlib.closing(self.as_ended(every, timeout=timeout)) as ended:
            for done, (index, value) in enumerate(ended, start=1):
                waiting[index] = value
                if progress is not None:
                    progress(done, len(every))
                while at in waiting:
                    yield waiting.pop(at)
                    at += 1

    def as_ended(
        self, arguments: Iterable[str], *, timeout: float | None = None
    ) -> Generator[tuple[int, Value_co], None, None]:
        """The values for arguments, each with the argument's index, as they end. Closing this ends what still runs.
        Raises IncompleteValue at the first that was cut off.
        """
        for start, batch in functions.batches(arguments):
            with self._link.stream(functions.map_function(self.name, batch), timeout) as answers:
                for answer in answers:
                    yield start + answer.index, self._value(answer.value, answer.summary)

    def delete(self, *, timeout: float | None = None) -> None:
        """Delete the function in the daemon. Calls that run are answered to their end."""
        self._link.unary(functions.delete_function(self.name), timeout)

    def _value(self, text: str, summary: context_pb2.DecodeSummary) -> Value_co:
        value: Any = value_of(self.name, self.defined.config, text, summary)
        return cast("Value_co", value)
