"""The border of the daemon: every rpc passes here. Who may come in, what an error looks like outside, and the one
line that is logged for each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from sessiond.v1 import errors
from sessiond.v1.status import code_of, to_status

log = structlog.get_logger("sessiond.rpc")

OURS = "/sessiond.v1."
HEALTH = "/grpc.health."
VERSION_KEY = "sessiond-version"
MAX_MESSAGE = 2000
"""Characters of an error's sentence that travel. Headers have a limit, and a sentence needs no more."""

_line: contextvars.ContextVar[dict[str, object] | None] = contextvars.ContextVar("line", default=None)

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Awaitable[Any]]


def note(**figures: object) -> None:
    """Add figures to the line that is logged when the running rpc ends."""
    line = _line.get()
    if line is not None:
        line.update(figures)


class _Undecodable:
    """Stands for a request that is no message of its type."""

    def __init__(self, why: str) -> None:
        self.why = why


class Boundary(grpc.aio.ServerInterceptor):
    """See the module. An empty token lets everybody in: the socket's folder is the guard then."""

    def __init__(self, token: str, version: str) -> None:
        self._token = token.encode()
        self._version = version

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        if not self._allowed(handler_call_details):
            return _refusing(handler)
        if method.startswith(HEALTH) and handler.unary_unary is not None:
            return self._telling_version(handler)
        if not method.startswith(OURS):
            return handler
        if handler.response_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, _written(handler.unary_stream)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, cast("Behaviour", handler.unary_unary)
        return make(
            _guarded(method, behaviour),
            request_deserializer=_careful(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _allowed(self, details: grpc.HandlerCallDetails) -> bool:
        if not self._token:
            return True
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        told = given if isinstance(given, bytes) else str(given).encode("utf-8", "replace")
        return hmac.compare_digest(told, b"Bearer " + self._token)

    def _telling_version(self, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        async def behaviour(request: Any, context: Context) -> Any:
            await context.send_initial_metadata(((VERSION_KEY, self._version),))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _written(behaviour: Any) -> Behaviour:
    """A generator's items, written one by one. grpc would iterate by itself; but then a cancel would be raised
    outside the generator, and its turn would end some time after its rpc.
    """

    async def write(request: Any, context: Context) -> None:
        async with contextlib.aclosing(behaviour(request, context)) as items:
            async for item in items:
                await context.write(item)

    return write


def _refusing(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """The same shape of handler, which refuses everybody alike: it does not even look at the request."""

    async def refuse(_request: Any, context: Context) -> None:
        await _abort(context, errors.PermissionDenied("a valid token is needed"))

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _careful(deserialize: Any) -> Callable[[bytes], Message | _Undecodable]:
    def decode(data: bytes) -> Message | _Undecodable:
        try:
            message: Message = deserialize(data)
        except (DecodeError, ValueError) as error:  # not protobuf, or a string that is not UTF-8
            return _Undecodable(str(error))
        return message

    return decode


def _guarded(method: str, behaviour: Behaviour) -> Behaviour:
    async def guarded(request: Any, context: Context) -> Any:
        begun = time.monotonic()
        line: dict[str, object] = {"method": method.removeprefix(OURS)}
        _line.set(line)
        code, error = "OK", None
        try:
            if isinstance(request, _Undecodable):
                raise errors.invalid("request", f"is not a valid message: {request.why}")
            note(session=getattr(request, "name", "") or None)
            return await behaviour(request, context)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except errors.SessiondError as raised:
            # Without its traceback: that would hold this frame, and this frame the request, until the next sweep.
            error, code = raised.with_traceback(None), code_of(raised).name
            line["reason"] = raised.reason
            line["error"] = raised.message[:MAX_MESSAGE]
        except Exception:
            error, code = errors.SessiondError("an internal error; the daemon's log has it"), "INTERNAL"
            log.exception("rpc.bug", method=method)
        finally:
            told = {name: value for name, value in line.items() if value is not None}
            log.info("rpc", code=code, ms=round((time.monotonic() - begun) * 1e3, 2), **told)
        del (
            request
        )  # a refused message may be large, and the abort below is an exception that holds this frame
        await _abort(context, error)
        return None

    return guarded


async def _abort(context: Context, error: errors.SessiondError) -> None:
    status = to_status(error)
    status.message = status.message[:MAX_MESSAGE]
    details = status.SerializeToString()
    await context.abort(
        code_of(error), status.message, trailing_metadata=(("grpc-status-details-bin", details),)
    )
