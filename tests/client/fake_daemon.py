"""A gRPC server that answers every method of the contract with hand-made messages, for tests of the transport alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from sessiond.client.transport import MESSAGE_BYTES, VERSION_KEY
from sessiond.v1 import (
    context_pb2,
    function_service_pb2,
    model_service_pb2,
    session_service_pb2,
    workspace_service_pb2,
)
from sessiond.v1.errors import SessiondError
from sessiond.v1.status import to_status

VERSION = "9.8.7"
SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
    workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"],
    function_service_pb2.DESCRIPTOR.services_by_name["FunctionService"],
)


def turn(*texts: str) -> list[session_service_pb2.CompleteResponse]:
    """The answers of a turn that says these texts."""
    summary = context_pb2.DecodeSummary(generated_tokens=2, finish_reason=context_pb2.FINISH_REASON_STOP)
    return [
        session_service_pb2.CompleteResponse(prefix_status=context_pb2.PrefixStatus(reused_tokens=7)),
        session_service_pb2.CompleteResponse(suffix_status=context_pb2.SuffixStatus(suffix_tokens=3)),
        *(session_service_pb2.CompleteResponse(chunk=context_pb2.StreamChunk(text=text)) for text in texts),
        session_service_pb2.CompleteResponse(chunk=context_pb2.StreamChunk(summary=summary)),
    ]


class FakeDaemon:
    """Answers with `answers[method]`, an empty message where there is none; a list is streamed.

    `raises` fails every call, a stream after `raises_after` of its answers. `endless` repeats the last answer of a stream
    until the client goes away, which sets `cancelled`. `delay` is how many seconds a unary call takes; `stuck` names one
    that is answered no sooner than the client goes away, which sets `cancelled` too.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.answers: dict[str, Message | Sequence[Message]] = {}
        self.raises: SessiondError | None = None
        self.aborts: tuple[grpc.StatusCode, str] | None = None
        self.raises_after = 0
        self.endless = False
        self.delay = 0.0
        self.stuck = ""
        self.requests: list[Any] = []
        self.metadata: dict[str, str | bytes] = {}
        self.cancelled = threading.Event()
        self.health = health.HealthServicer()
        self.port = 0
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", MESSAGE_BYTES)]
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    service.full_name, {method.name: self._handler(method) for method in service.methods}
                )
                for service in SERVICES
            ]
        )
        health_pb2_grpc.add_HealthServicer_to_server(_VersionedHealth(self.health), self._server)
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._server.add_insecure_port(f"unix:{quote(str(self.socket))}")
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop(0).wait()

    def request(self) -> Any:
        """The last request."""
        return self.requests[-1]

    def _wait_until_gone(self, context: grpc.ServicerContext) -> None:
        while context.is_active():
            time.sleep(0.01)
        self.cancelled.set()

    def _note_when_gone(self, context: grpc.ServicerContext) -> None:
        if not context.add_callback(self.cancelled.set):
            self.cancelled.set()  # the client went away before the call began here

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        asked: Any = GetMessageClass(method.input_type)
        answered: Any = GetMessageClass(method.output_type)

        def begin(request: Any, context: grpc.ServicerContext) -> Sequence[Any]:
            self.requests.append(request)
            self.metadata = dict(context.invocation_metadata())
            answer: Message | Sequence[Message] = self.answers.get(method.name) or answered()
            return [answer] if isinstance(answer, Message) else answer

        def fail(context: grpc.ServicerContext) -> None:
            if self.aborts is not None:
                context.abort(*self.aborts)
            if self.raises is not None:
                context.abort_with_status(rpc_status.to_status(to_status(self.raises)))

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            answers = begin(request, context)
            fail(context)
            time.sleep(self.delay)
            if method.name == self.stuck:
                self._wait_until_gone(context)
            return answers[0]

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self._note_when_gone(context)
            answers = begin(request, context)
            for index, answer in enumerate(answers):
                if index == self.raises_after:
                    fail(context)
                yield answer
            while self.endless and context.is_active():
                yield answers[-1]
                time.sleep(0.01)

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, asked.FromString, answered.SerializeToString)
        return grpc.unary_unary_rpc_method_handler(unary, asked.FromString, answered.SerializeToString)


class _VersionedHealth(health_pb2_grpc.HealthServicer):
    def __init__(self, servicer: health.HealthServicer) -> None:
        self._servicer = servicer

    def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:  # noqa: N802 - gRPC's name
        context.send_initial_metadata(((VERSION_KEY, VERSION),))
        return self._servicer.Check(request, context)
