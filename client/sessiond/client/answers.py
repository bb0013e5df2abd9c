"""What of a streamed answer is handed on, for both faces of the client. None is skipped."""

from __future__ import annotations

from typing import TypeVar

from sessiond.v1 import context_pb2, function_service_pb2, session_service_pb2

Answer = TypeVar("Answer")


def whole(answer: Answer) -> Answer:
    return answer


def chunk_of_decode(answer: session_service_pb2.DecodeResponse) -> context_pb2.StreamChunk:
    return answer.chunk


def chunk_of_call(answer: function_service_pb2.CallFunctionResponse) -> context_pb2.StreamChunk:
    return answer.chunk


def event_of(answer: session_service_pb2.WatchSessionResponse) -> session_service_pb2.SessionEvent:
    return answer.event


def text_of(answer: session_service_pb2.CompleteResponse) -> str | None:
    """The text of a turn: the other parts have none, and neither has the last chunk."""
    return answer.chunk.text or None
