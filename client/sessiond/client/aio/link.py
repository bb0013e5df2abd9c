"""One channel of the client for asyncio, and the only place that makes calls on it."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import grpc
from grpc import aio

from sessiond.client.aio import cancels
from sessiond.client.aio.stream import AsyncStream
from sessiond.client.calls.call import Streaming, Unary
from sessiond.client.endpoint import Endpoint
from sessiond.client.failures import exception_of, of_closed
from sessiond.client.transport import OPTIONS, Metadata, call_metadata, credentials_of

Part = TypeVar("Part")


class Link:
    """A connection to one daemon, with the time that a call may take if it gives none of its own."""

    def __init__(self, endpoint: Endpoint, timeout: float | None) -> None:
        secure = credentials_of(endpoint)
        self.channel = (
            aio.insecure_channel(endpoint.target, OPTIONS)
            if secure is None
            else aio.secure_channel(endpoint.target, secure, OPTIONS)
        )
        self._is_closed = False
        self._endpoint = endpoint
        self._timeout = timeout
        self._metadata = call_metadata(endpoint)

    async def unary(self, call: Unary[Part], timeout: float | None) -> Part:
        """What is picked of the one answer."""
        return (await self.unary_with_metadata(call, timeout))[0]

    async def unary_with_metadata(self, call: Unary[Part], timeout: float | None) -> tuple[Part, Metadata]:
        """The same, and the first metadata that came with it."""
        self._check_open()
        method: aio.UnaryUnaryMultiCallable[Any, Any] = self.channel.unary_unary(
            call.path, type(call.request).SerializeToString, call.answer.FromString
        )
        try:
            running = method(call.request, timeout=self._within(timeout), metadata=self._metadata)
            answer = await running
            metadata = await running.initial_metadata()
        except grpc.RpcError as error:
            raise exception_of(error, self._endpoint) from error
        except asyncio.CancelledError:
            if cancels.is_of_task():
                raise
            raise of_closed(self._endpoint) from None
        return call.pick(answer), tuple(metadata)

    def stream(self, call: Streaming[Part], timeout: float | None) -> AsyncStream[Part]:
        """What is picked of each answer."""
        self._check_open()
        method: aio.UnaryStreamMultiCallable[Any, Any] = self.channel.unary_stream(
            call.path, type(call.request).SerializeToString, call.answer.FromString
        )
        running = method(call.request, timeout=self._within(timeout), metadata=self._metadata)
        return AsyncStream(running, call.pick, self._endpoint)

    async def close(self) -> None:
        """Close the channel; what runs on it is cancelled."""
        self._is_closed = True
        await self.channel.close()

    def _check_open(self) -> None:
        if self._is_closed:  # gRPC would raise an error of its own
            raise of_closed(self._endpoint)

    def _within(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout
