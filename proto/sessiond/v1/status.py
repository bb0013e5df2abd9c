"""The one error table: exceptions of `sessiond.v1.errors` to and from `google.rpc.Status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from sessiond.v1 import errors, errors_pb2

DOMAIN = "sessiond"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class _Received:
    """What a Status said: its sentence, its figures, and its detail message still packed."""

    message: str
    metadata: Mapping[str, str]
    details: tuple[Any, ...]

    def detail(self, kind: type[M]) -> M:
        """The detail message of this kind, or an empty one: an older daemon may not send it."""
        found = kind()
        for packed in self.details:
            if packed.Unpack(found):
                break
        return found


@dataclass(frozen=True, slots=True)
class _Row:
    """How one kind of error travels."""

    code: grpc.StatusCode
    raised: Callable[[_Received], errors.SessiondError]


def _overflow(received: _Received) -> errors.SessiondError:
    told = received.detail(errors_pb2.ContextOverflow)
    return errors.ContextOverflow(
        told.stage, told.resident_tokens, told.additional_tokens, told.num_ctx, told.arguments
    )


def _mismatch(received: _Received) -> errors.SessiondError:
    told = received.detail(errors_pb2.ManifestMismatch)
    return errors.ManifestMismatch(
        [errors.FieldMismatch(field.name, field.expected, field.actual) for field in told.fields]
    )


def _unsupported(received: _Received) -> errors.SessiondError:
    told = received.detail(errors_pb2.UnsupportedFeature)
    return errors.UnsupportedFeature(told.feature, told.backend)


def _invalid(received: _Received) -> errors.SessiondError:
    told = received.detail(error_details_pb2.BadRequest)
    return errors.InvalidInput(
        [errors.FieldViolation(field.field, field.description) for field in told.field_violations]
    )


_TABLE: dict[type[errors.SessiondError], _Row] = {
    errors.ContextOverflow: _Row(grpc.StatusCode.OUT_OF_RANGE, _overflow),
    errors.ManifestMismatch: _Row(grpc.StatusCode.FAILED_PRECONDITION, _mismatch),
    errors.UnsupportedFeature: _Row(grpc.StatusCode.UNIMPLEMENTED, _unsupported),
    errors.SessionNotFound: _Row(
        grpc.StatusCode.NOT_FOUND, lambda told: errors.SessionNotFound(told.metadata.get("name", ""))
    ),
    errors.FunctionNotFound: _Row(
        grpc.StatusCode.NOT_FOUND, lambda told: errors.FunctionNotFound(told.metadata.get("name", ""))
    ),
    errors.SessionClosed: _Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        lambda told: errors.SessionClosed(told.metadata.get("name", "")),
    ),
    errors.SessionBusy: _Row(
        grpc.StatusCode.ABORTED, lambda told: errors.SessionBusy(told.metadata.get("name", ""))
    ),
    errors.SessionFatal: _Row(
        grpc.StatusCode.DATA_LOSS,
        lambda told: errors.SessionFatal(told.detail(errors_pb2.SessionFatal).cause),
    ),
    errors.SessionUnavailable: _Row(
        grpc.StatusCode.UNAVAILABLE, lambda told: errors.SessionUnavailable(told.message)
    ),
    errors.InvalidInput: _Row(grpc.StatusCode.INVALID_ARGUMENT, _invalid),
    errors.PermissionDenied: _Row(
        grpc.StatusCode.PERMISSION_DENIED, lambda told: errors.PermissionDenied(told.message)
    ),
}
_BY_REASON = {kind.reason: row for kind, row in _TABLE.items()}


def detail_of(error: errors.SessiondError) -> Message | None:
    """The error's own detail message, if its kind has one."""
    match error:
        case errors.ContextOverflow():
            return errors_pb2.ContextOverflow(
                stage=error.stage,
                resident_tokens=error.resident_tokens,
                additional_tokens=error.additional_tokens,
                num_ctx=error.num_ctx,
                arguments=error.arguments,
            )
        case errors.ManifestMismatch():
            return errors_pb2.ManifestMismatch(
                fields=[
                    errors_pb2.FieldMismatch(name=f.name, expected=f.expected, actual=f.actual)
                    for f in error.fields
                ]
            )
        case errors.UnsupportedFeature():
            return errors_pb2.UnsupportedFeature(feature=error.feature, backend=error.backend)
        case errors.SessionFatal():
            return errors_pb2.SessionFatal(cause=error.cause)
        case errors.InvalidInput():
            return error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        case _:
            return None


def code_of(error: errors.SessiondError) -> grpc.StatusCode:
    """The gRPC code of an error; INTERNAL for one that the table does not name."""
    row = _TABLE.get(type(error))
    return row.code if row else grpc.StatusCode.INTERNAL


def to_status(error: errors.SessiondError) -> status_pb2.Status:
    """The error as it travels: ErrorInfo first, then its own detail message."""
    packed = [Any(), Any()]
    packed[0].Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata()))
    detail = detail_of(error)
    if detail is None:
        packed.pop()
    else:
        packed[1].Pack(detail)
    return status_pb2.Status(
        code=code_pb2.Code.Value(code_of(error).name), message=error.message, details=packed
    )


def from_status(status: status_pb2.Status) -> errors.SessiondError | None:
    """The exception that a Status carries; None if it did not come from sessiond."""
    info = error_details_pb2.ErrorInfo()
    for packed in status.details:
        if packed.Unpack(info) and info.domain == DOMAIN:
            row = _BY_REASON.get(info.reason)
            if row is None:
                return errors.SessiondError(status.message)
            return row.raised(_Received(status.message, dict(info.metadata), tuple(status.details)))
    return None
