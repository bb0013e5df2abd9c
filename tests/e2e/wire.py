"""Calls below the client: any bytes to any rpc, and requests made from the contract's descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sessiond.v1 import (
    function_service_pb2,
    model_service_pb2,
    session_service_pb2,
    workspace_service_pb2,
)
from sessiond.v1.errors import SessiondError
from sessiond.v1.status import DOMAIN, from_status

MARK = "MARK-THE-PLACE"
"""Stands in a request where a test puts something else."""


@dataclass(frozen=True)
class Rpc:
    """One rpc of the contract."""

    path: str
    name: str
    request: type[Message]
    streams: bool

    def __str__(self) -> str:
        return self.name

    @property
    def is_gap(self) -> bool:
        """Whether this daemon answers it with UNSUPPORTED_FEATURE, whatever is asked."""
        return self.name.endswith(("ForkSession", "Embed"))


def _rpcs() -> Iterator[Rpc]:
    for module in (session_service_pb2, model_service_pb2, workspace_service_pb2, function_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield Rpc(
                    f"/{service.full_name}/{method.name}",
                    f"{service.name}.{method.name}",
                    GetMessageClass(method.input_type),
                    bool(method.server_streaming),
                )


RPCS = tuple(_rpcs())


@dataclass(frozen=True)
class Place:
    """A field somewhere in the request of an rpc."""

    rpc: Rpc
    fields: tuple[FieldDescriptor, ...]

    def __str__(self) -> str:
        return f"{self.rpc.name}:{'.'.join(field.name for field in self.fields)}"

    @property
    def leaf(self) -> FieldDescriptor:
        """The field itself."""
        return self.fields[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """The names on the way there."""
        return tuple(field.name for field in self.fields)

    def request(self, session: str, value: Any) -> Message:
        """A request that is sound but for this field."""
        message = self.rpc.request()
        if "name" in message.DESCRIPTOR.fields_by_name:
            name = "sound" if self.rpc.name.startswith("FunctionService") else session
            setattr(message, "name", name)  # noqa: B010 - not every message has one
        if "body" in message.DESCRIPTOR.fields_by_name:
            setattr(message, "body", "a body")  # noqa: B010 - as above
        put(message, self.fields, value)
        return message


def put(message: Any, fields: Sequence[FieldDescriptor], value: Any) -> None:
    """Set the field at the end of this way; what is repeated on the way gets one entry."""
    first, *rest = fields
    if rest:
        inner = getattr(message, first.name)
        into = inner.add() if first.is_repeated else inner
        _fill_in(into)
        put(into, rest, value)
    elif first.is_repeated:
        getattr(message, first.name).append(value)
    else:
        setattr(message, first.name, value)


def _fill_in(message: Any) -> None:
    """What an entry needs to be sound."""
    for name, sound in (("id", "a"), ("role", "user")):
        if name in message.DESCRIPTOR.fields_by_name:
            setattr(message, name, sound)
    if message.DESCRIPTOR.name == "Lora":
        message.path = "/nowhere.gguf"


def fields_of(
    descriptor: Any, *kinds: int, at: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """The ways to all fields of these types below a message."""
    for field in descriptor.fields:
        way = (*at, field)
        if field.message_type is not None:
            yield from fields_of(field.message_type, *kinds, at=way)
        elif field.type in kinds:
            yield way


def places(*kinds: int) -> list[Place]:
    """All fields of these types in all requests."""
    return [Place(rpc, way) for rpc in RPCS for way in fields_of(rpc.request.DESCRIPTOR, *kinds)]


def send(channel: grpc.Channel, rpc: Rpc, data: bytes, timeout: float = 60.0) -> list[bytes]:
    """Send these bytes as the request; all answers as bytes. Raises grpc.RpcError."""
    if rpc.streams:
        stream: Any = channel.unary_stream(rpc.path)
        return list(stream(data, timeout=timeout))
    call: Any = channel.unary_unary(rpc.path)
    return [call(data, timeout=timeout)]


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The Status of a failed call. There must be one."""
    found: status_pb2.Status | None = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert found is not None, f"an error without details: {error}"
    return found


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a Status, which comes first."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == DOMAIN
    return info


def refusal(channel: grpc.Channel, rpc: Rpc, data: bytes, timeout: float = 60.0) -> SessiondError:
    """The exception that these bytes are answered with. There must be one, and it must be typed."""
    try:
        answered = send(channel, rpc, data, timeout)
    except grpc.RpcError as error:
        raised = from_status(status_of(error))
        assert raised is not None
        return raised
    raise AssertionError(f"{rpc} took it and answered {answered!r:.200}")
