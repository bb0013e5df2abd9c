"""How long a client may keep us waiting: for its request, and for it to take what we answer.

gRPC itself would wait for ever, and a turn would hold its session meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from sessiond.v1.errors import invalid

Context = grpc.aio.ServicerContext[Any, Any]


class Undecodable:
    """Stands for a request that is no message of its type."""

    def __init__(self, why: str) -> None:
        self.why = why


class Unread(Exception):
    """The client takes nothing of its answer. What was last written is still on its way."""

    def __init__(self, write: asyncio.Future[None]) -> None:
        super().__init__()
        self._write = write

    async def over(self) -> None:
        """Wait until it was taken after all: before that gRPC can send no status either."""
        await _unless_cancelled(self._write, None)


def careful(deserialize: Any) -> Any:
    """A deserializer that does not raise: gRPC would answer with an error that has no reason."""

    def decode(data: bytes) -> Message | Undecodable:
        try:
            message: Message = deserialize(data)
        except (DecodeError, ValueError) as error:  # not protobuf, or a string that is not UTF-8
            return Undecodable(str(error))
        return message

    return decode


async def received(context: Context, within_s: float) -> Message:
    """The one request of a call. Raises InvalidInput."""
    try:
        async with asyncio.timeout(within_s):
            request = await context.read()
    except TimeoutError:
        raise invalid("request", f"did not arrive whole within {within_s:g} seconds") from None
    if isinstance(request, Undecodable):
        raise invalid("request", f"is not a valid message: {request.why}")
    if not isinstance(request, Message):
        raise invalid("request", "is missing")
    return request


async def write_all(items: AsyncGenerator[Any, None], context: Context, each_s: float) -> None:
    """Write a generator's items one by one. grpc would iterate by itself; but then a cancel would be raised outside the
    generator, and its turn would end some time after its rpc. Raises Unread, with the generator closed.
    """
    async with contextlib.aclosing(items):
        async for item in items:
            write = asyncio.ensure_future(context.write(item))
            write.add_done_callback(_heard)
            if not await _unless_cancelled(write, each_s):
                raise Unread(write)
            try:
                write.result()
            except grpc.aio.InternalError:  # the client is gone, and gRPC's own cancel is on its way to us
                raise asyncio.CancelledError from None


def _heard(write: asyncio.Future[None]) -> None:
    # Whoever was cancelled meanwhile does not ask how the write ended, and asyncio would log that nobody did.
    if not write.cancelled():
        write.exception()


async def _unless_cancelled(write: asyncio.Future[None], seconds: float | None) -> bool:
    """Whether the write was over in time, well or not. With us it is cancelled too, or nobody would hear of its end."""
    try:
        done, _ = await asyncio.wait((write,), timeout=seconds)
    except asyncio.CancelledError:
        write.cancel()
        raise
    return bool(done)
