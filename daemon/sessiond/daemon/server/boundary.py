"""The border of the daemon: every rpc passes here. Who may come in, what an error looks like outside, and the one
line that is logged for each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import structlog
from google.protobuf.message import Message

from sessiond.daemon.bearer import Bearer
from sessiond.daemon.server.fields import SESSION_NAME
from sessiond.daemon.server.gate import Gate, Limits
from sessiond.daemon.server.patience import Unread, careful, received, write_all
from sessiond.v1 import errors
from sessiond.v1.status import code_of, to_status

log = structlog.get_logger("sessiond.rpc")

OURS = "/sessiond.v1."
HEALTH = "/grpc.health."
FUNCTIONS = "/sessiond.v1.FunctionService/"
VERSION_KEY = "sessiond-version"
MAX_MESSAGE = 2000
"""Characters of an error's sentence that travel. Headers have a limit, and a sentence needs no more."""
MAX_DETAILS = 256 << 10
"""Bytes of an error's details. They may quote what was sent, and a client that gets more headers than it takes would not
even learn the reason: beyond this only that travels.
"""
TURNS = frozenset(
    f"/sessiond.v1.SessionService/{name}"
    for name in (
        *("EnsurePrefix", "PrefillSuffix", "Decode", "Complete", "Score"),
        *("ForkSession", "SaveSnapshot", "RestoreSnapshot"),
    )
)
"""The rpcs of which a session runs one at a time."""

_line: contextvars.ContextVar[dict[str, object] | None] = contextvars.ContextVar("line", default=None)

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Awaitable[Any]]


def note(**figures: object) -> None:
    """Add figures to the line that is logged when the running rpc ends."""
    line = _line.get()
    if line is not None:
        line.update(figures)


class Boundary(grpc.aio.ServerInterceptor):
    """See the module. An empty token lets everybody in: the socket's folder is the guard then."""

    def __init__(self, token: str, version: str, limits: Limits) -> None:
        self._bearer = Bearer(token)
        self._version = version
        self.gate = Gate(limits)
        self._stall_s = limits.stall_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of one call."""
        method = handler_call_details.method
        if not self._allowed(handler_call_details):  # before it shows whether there is such an rpc
            return _refusing(method)
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or not method.startswith((OURS, HEALTH)):
            return handler
        behaviour = self._health(handler) if method.startswith(HEALTH) else self._guarded(method, handler)
        # As streams of requests, which they are not: those are read by us, when and as long as we like.
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(
            cast("Any", behaviour),
            request_deserializer=careful(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _allowed(self, details: grpc.HandlerCallDetails) -> bool:
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        told = given if isinstance(given, bytes) else str(given).encode("utf-8", "replace")
        return self._bearer.allows(told)

    def _health(self, handler: Any) -> Behaviour:
        async def behaviour(_messages: object, context: Context) -> Any:
            try:
                request = await received(context, self._stall_s)
            except errors.SessiondError as raised:
                return await _abort(context, raised.with_traceback(None))
            if handler.response_streaming:
                return await handler.unary_stream(request, context)
            await context.send_initial_metadata(((VERSION_KEY, self._version),))
            return await handler.unary_unary(request, context)

        return behaviour

    def _guarded(self, method: str, handler: Any) -> Behaviour:
        async def guarded(_messages: object, context: Context) -> Any:
            begun = time.monotonic()
            line: dict[str, object] = {"method": method.removeprefix(OURS)}
            _line.set(line)
            code, error, unread = "OK", None, None
            try:
                return await self._served(method, handler, context)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except errors.SessiondError as raised:
                # Without its traceback: that would hold frames, and these the request, until the next sweep.
                error = raised.with_traceback(None)
            except Unread as stalled:
                unread = stalled.with_traceback(None)
                error = errors.SessionUnavailable(
                    f"the client took nothing of the answer for {self._stall_s:g} seconds"
                )
            except Exception:
                error = errors.SessiondError("an internal error; the daemon's log has it")
                log.exception("rpc.bug", method=method)
            finally:
                if error is not None:
                    code = code_of(error).name
                    line |= {"reason": error.reason, "error": error.message[:MAX_MESSAGE]}
                told = {name: value for name, value in line.items() if value is not None}
                log.info("rpc", code=code, ms=round((time.monotonic() - begun) * 1e3, 2), **told)
            if unread is not None:
                with (
                    contextlib.suppress(errors.SessionUnavailable),
                    self.gate.call(),
                ):  # it is still there, and counts
                    await unread.over()
            assert error is not None  # else there was an answer, or a cancel
            return await _abort(context, error)

        return guarded

    async def _served(self, method: str, handler: Any, context: Context) -> Any:
        with self.gate.call():
            request = await received(context, self._stall_s)
            subject = "function" if method.startswith(FUNCTIONS) else "session"
            note(**{subject: str(getattr(request, "name", ""))[:MAX_MESSAGE] or None})
            with self._turn(method, request):
                if handler.response_streaming:
                    return await write_all(handler.unary_stream(request, context), context, self._stall_s)
                return await handler.unary_unary(request, context)

    def _turn(self, method: str, request: Message) -> contextlib.AbstractContextManager[None]:
        name = str(getattr(request, "name", ""))
        # What is no name of a session is refused later, and is no reason to remember it.
        if method not in TURNS or not SESSION_NAME.fullmatch(name):
            return contextlib.nullcontext()
        return self.gate.turn(name)


def _refusing(method: str) -> grpc.RpcMethodHandler[Any, Any]:
    """Refuses everybody alike. As a stream of streams it fits every rpc, and does not even read the request."""

    async def refuse(_messages: object, context: Context) -> None:
        log.info("rpc", method=method[:MAX_MESSAGE], code="PERMISSION_DENIED", reason="PERMISSION_DENIED")
        await _abort(context, errors.PermissionDenied("a valid token is needed"))

    return grpc.stream_stream_rpc_method_handler(cast("Any", refuse))


async def _abort(context: Context, error: errors.SessiondError) -> None:
    status = to_status(error)
    status.message = status.message[:MAX_MESSAGE]
    if status.ByteSize() > MAX_DETAILS:
        del status.details[1:]
    details = status.SerializeToString()
    await context.abort(
        code_of(error), status.message, trailing_metadata=(("grpc-status-details-bin", details),)
    )
