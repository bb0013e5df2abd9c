"""What turns cost, as their answers say it: counted where they pass, inside the border and outside the servicers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import grpc

from sessiond.daemon.histogram import QUICK_S, SLOW_S, Histogram
from sessiond.daemon.metrics.kinds import CALLED, KINDS, kind_of
from sessiond.v1 import context_pb2, function_service_pb2, session_service_pb2
from sessiond.v1.errors import SessiondError

Context = grpc.aio.ServicerContext[Any, Any]

_METHODS = {
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name: (
        *("EnsurePrefix", "PrefillSuffix", "Decode", "Complete", "Score"),
    ),
    function_service_pb2.DESCRIPTOR.services_by_name["FunctionService"].full_name: (
        *("DefineFunction", "CallFunction", "MapFunction"),
    ),
}
METHODS = tuple(method for methods in _METHODS.values() for method in methods)
"""The rpcs that are turns: of sessions, and what functions do in one of theirs."""


@dataclass(slots=True)
class TurnCounts:
    """All turns since the daemon began. In its event loop."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By method, and "ok", "cancelled", "internal" or the reason of an error in small letters."""
    prefix_tokens: Counter[str] = field(default_factory=Counter[str])
    """By where their KV came from."""
    suffix_tokens: Counter[str] = field(default_factory=Counter[str])
    generated_tokens: int = 0
    queue_wait: Histogram = field(default_factory=lambda: Histogram(QUICK_S))
    first_token: dict[str, Histogram] = field(
        default_factory=lambda: {kind: Histogram(SLOW_S) for kind in KINDS}
    )
    """From a request's arrival to the first token of its answer, by kind of turn."""

    def heard_prefix(self, status: context_pb2.PrefixStatus) -> None:
        """A prefix stands."""
        unknown = status.reuse_source == context_pb2.REUSE_SOURCE_UNKNOWN
        self.prefix_tokens["reused"] += status.reused_tokens
        self.prefix_tokens["restored"] += status.restored_tokens
        self.prefix_tokens["unknown" if unknown else "prefilled"] += status.prefilled_tokens

    def heard_suffix(self, status: context_pb2.SuffixStatus) -> None:
        """A suffix stands."""
        self.suffix_tokens["reused"] += status.reused_tokens
        self.suffix_tokens["prefilled"] += status.prefilled_tokens


class _Turn:
    """One turn as it goes."""

    def __init__(self, counts: TurnCounts) -> None:
        self._counts = counts
        self._began = time.monotonic()
        self._prefix: context_pb2.PrefixStatus | None = None
        self._answers = False

    def saw(self, answer: Any) -> None:
        """A message of the answer is about to leave."""
        match answer:
            case session_service_pb2.EnsurePrefixResponse():
                self._counts.heard_prefix(answer.status)
                self._waited(answer.timings)
            case session_service_pb2.PrefillSuffixResponse():
                self._counts.heard_suffix(answer.status)
                self._waited(answer.timings)
            case session_service_pb2.ScoreResponse():
                self._waited(answer.timings)
            case session_service_pb2.DecodeResponse():
                self._saw_chunk(answer.chunk)
            case session_service_pb2.CompleteResponse():
                self._saw_part(answer)
            case function_service_pb2.CallFunctionResponse():
                self._saw_chunk(answer.chunk, CALLED)
            case function_service_pb2.MapFunctionResponse():
                self._counts.generated_tokens += len(answer.token_ids)
                self._waited(answer.summary.timings)
            case _:
                pass

    def _saw_part(self, part: session_service_pb2.CompleteResponse) -> None:
        match part.WhichOneof("event"):
            case "prefix_status":
                self._prefix = part.prefix_status
                self._counts.heard_prefix(part.prefix_status)
            case "suffix_status":
                self._counts.heard_suffix(part.suffix_status)
            case "chunk":
                self._saw_chunk(part.chunk)
            case _:
                pass

    def _saw_chunk(self, chunk: context_pb2.StreamChunk, kind: str = "") -> None:
        if chunk.token_ids and not self._answers:
            self._answers = True
            self._counts.first_token[kind or kind_of(self._prefix)].add(time.monotonic() - self._began)
        self._counts.generated_tokens += len(chunk.token_ids)
        if chunk.HasField("summary"):
            self._waited(chunk.summary.timings)

    def _waited(self, timings: context_pb2.Timings) -> None:
        self._counts.queue_wait.add(timings.queue_ms / 1e3)


class TurnObserver(grpc.aio.ServerInterceptor):
    """Counts turns. It changes nothing of them."""

    def __init__(self, counts: TurnCounts) -> None:
        self._counts = counts

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a turn."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.removeprefix("/").partition("/")
        if handler is None or method not in _METHODS.get(service, ()):
            return handler
        made: Any
        if handler.response_streaming:
            make, made = grpc.unary_stream_rpc_method_handler, self._stream(method, handler.unary_stream)
        else:
            make, made = grpc.unary_unary_rpc_method_handler, self._unary(method, handler.unary_unary)
        return make(
            made,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Any) -> Any:
        async def watched(request: Any, context: Context) -> Any:
            with self._ending(method):
                turn = _Turn(self._counts)
                answer = await behaviour(request, context)
                turn.saw(answer)
                return answer

        return watched

    def _stream(self, method: str, behaviour: Any) -> Any:
        async def watched(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            with self._ending(method):
                turn = _Turn(self._counts)
                async with contextlib.aclosing(behaviour(request, context)) as items:
                    async for item in items:
                        turn.saw(item)
                        yield item

        return watched

    @contextlib.contextmanager
    def _ending(self, method: str) -> Generator[None, None, None]:
        outcome = "ok"
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        except SessiondError as error:
            outcome = error.reason.lower()
            raise
        except Exception:
            outcome = "internal"
            raise
        finally:
            self._counts.outcomes[method, outcome] += 1
