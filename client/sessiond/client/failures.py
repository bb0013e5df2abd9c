"""The one place where a gRPC error becomes an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from sessiond.client.endpoint import Endpoint
from sessiond.v1 import errors
from sessiond.v1.status import from_status

_status_of = cast(
    "Callable[[grpc.Call], status_pb2.Status | None]",
    rpc_status.from_call,  # pyright: ignore[reportUnknownMemberType] - its stub gives no answer's type
)


def exception_of(error: grpc.RpcError, endpoint: Endpoint) -> Exception:
    """The exception to raise for a failed call: the one that the daemon raised, or, where the daemon did not speak,
    SessionUnavailable, InvalidInput, PermissionDenied, UnsupportedFeature, TimeoutError or SessiondError.
    """
    try:
        status = _status_of(cast("grpc.Call", error))
    except (
        ValueError
    ):  # the status contradicts the code: something between us and the daemon rewrote the answer
        status = None
    raised = from_status(status) if status is not None else None
    return raised or _of_transport(error.code(), error.details() or "", endpoint)


def of_closed(endpoint: Endpoint) -> Exception:
    """The exception for a call of a client that was closed, before it or meanwhile."""
    return errors.SessionUnavailable(f"the connection to {endpoint} was closed by this client")


def _of_transport(code: grpc.StatusCode, details: str, endpoint: Endpoint) -> Exception:
    """The exception for an error that gRPC itself made."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return errors.SessionUnavailable(f"no daemon answers on {endpoint}: {details}")
        case grpc.StatusCode.CANCELLED:
            # A stream that we cancel never arrives here: it is not read. Nor does asyncio: there CancelledError is raised.
            return errors.SessionUnavailable(f"the call on {endpoint} was cancelled: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimeoutError(f"no answer from {endpoint} within the time given")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "message larger than max" in details:
            return errors.invalid("message", details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.SessionUnavailable(f"the daemon on {endpoint} takes no more calls now: {details}")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return errors.PermissionDenied(f"the daemon on {endpoint} refused the call: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.UnsupportedFeature(f"this call (the daemon on {endpoint} says: {details})")
        case _:
            return errors.SessiondError(f"the call on {endpoint} failed, {code.name}: {details}")
