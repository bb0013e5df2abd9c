"""The parts of a streamed answer, as a user of the client for asyncio holds them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc

from sessiond.client.aio import cancels
from sessiond.client.endpoint import Endpoint
from sessiond.client.failures import exception_of, of_closed

Part_co = TypeVar("Part_co", covariant=True)


class _Call(Protocol):
    """A running call of gRPC with many answers."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    def cancel(self) -> bool: ...


class AsyncStream(AsyncIterator[Part_co], Generic[Part_co]):
    """The parts of an answer as they come. The call runs from the start; closing or dropping the stream cancels it."""

    def __init__(self, call: _Call, pick: Callable[[Any], Part_co | None], endpoint: Endpoint) -> None:
        self._call = call
        self._answers: AsyncIterator[Any] = aiter(call)
        self._pick: Callable[[Any], Part_co | None] = pick
        self._endpoint = endpoint
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Part_co:
        while True:
            try:
                answer = await anext(self._answers)
            except grpc.RpcError as error:
                raise exception_of(error, self._endpoint) from error
            except asyncio.CancelledError:
                if cancels.is_of_task():
                    raise
                if self._closed:
                    raise StopAsyncIteration from None
                raise of_closed(self._endpoint) from None
            part = self._pick(answer)
            if part is not None:
                return part

    async def aclose(self) -> None:
        """Cancel the call if it still runs, and end the stream."""
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # its event loop may be gone, and the call with it
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._call.cancel()
