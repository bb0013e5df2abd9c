"""The error table: every exception travels and arrives as itself."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from sessiond.v1 import errors
from sessiond.v1.status import _BY_REASON, _TABLE, DOMAIN, code_of, detail_of, from_status, to_status

_TEXT = st.text(max_size=12)
_COUNT = st.integers(-(2**63), 2**63 - 1)

CODES = {
    "CONTEXT_OVERFLOW": grpc.StatusCode.OUT_OF_RANGE,
    "MANIFEST_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "UNSUPPORTED_FEATURE": grpc.StatusCode.UNIMPLEMENTED,
    "SESSION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "FUNCTION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SESSION_CLOSED": grpc.StatusCode.FAILED_PRECONDITION,
    "SESSION_BUSY": grpc.StatusCode.ABORTED,
    "SESSION_FATAL": grpc.StatusCode.DATA_LOSS,
    "SESSION_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "INVALID_INPUT": grpc.StatusCode.INVALID_ARGUMENT,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
}
"""The contract's table."""

SAMPLES: dict[type[errors.SessiondError], st.SearchStrategy[errors.SessiondError]] = {
    errors.ContextOverflow: st.builds(
        errors.ContextOverflow, _TEXT, _COUNT, _COUNT, _COUNT, st.lists(st.integers(0, 1 << 20), max_size=3)
    ),
    errors.ManifestMismatch: st.builds(
        errors.ManifestMismatch, st.lists(st.builds(errors.FieldMismatch, _TEXT, _TEXT, _TEXT), max_size=3)
    ),
    errors.UnsupportedFeature: st.builds(errors.UnsupportedFeature, _TEXT, _TEXT),
    errors.SessionNotFound: st.builds(errors.SessionNotFound, _TEXT),
    errors.FunctionNotFound: st.builds(errors.FunctionNotFound, _TEXT),
    errors.SessionClosed: st.builds(errors.SessionClosed, _TEXT),
    errors.SessionBusy: st.builds(errors.SessionBusy, _TEXT),
    errors.SessionFatal: st.builds(errors.SessionFatal, _TEXT),
    errors.SessionUnavailable: st.builds(errors.SessionUnavailable, _TEXT),
    errors.InvalidInput: st.builds(
        errors.InvalidInput, st.lists(st.builds(errors.FieldViolation, _TEXT, _TEXT), max_size=3)
    ),
    errors.PermissionDenied: st.builds(errors.PermissionDenied, _TEXT),
}


def _kinds(kind: type[errors.SessiondError] = errors.SessiondError) -> Iterator[type[errors.SessiondError]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
        yield from _kinds(below)


KINDS = sorted(set(_kinds()), key=lambda kind: kind.__name__)


def test_none_is_forgotten() -> None:
    assert set(KINDS) == set(SAMPLES) == set(_TABLE)
    assert len(_BY_REASON) == len(_TABLE)
    assert {kind.reason: row.code for kind, row in _TABLE.items()} == CODES
    assert errors.SessiondError.reason not in CODES


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_error_comes_back_as_itself(kind: type[errors.SessiondError], data: st.DataObject) -> None:
    error = data.draw(SAMPLES[kind])
    status = status_pb2.Status.FromString(to_status(error).SerializeToString())
    back = from_status(status)
    assert type(back) is kind
    assert back is not None
    assert (back.message, str(back), vars(back)) == (error.message, str(error), vars(error))
    assert back.metadata() == error.metadata()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_what_stands_in_a_status(kind: type[errors.SessiondError], data: st.DataObject) -> None:
    error = data.draw(SAMPLES[kind])
    status = to_status(error)
    assert status.code == code_of(error).value[0] == code_pb2.Code.Value(CODES[kind.reason].name)
    assert status.message == error.message
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (kind.reason, DOMAIN, error.metadata())
    detail = detail_of(error)
    assert len(status.details) == (1 if detail is None else 2)


def test_an_error_that_the_table_does_not_name() -> None:
    error = errors.SessiondError("a bug")
    assert code_of(error) is grpc.StatusCode.INTERNAL
    back = from_status(to_status(error))
    assert type(back) is errors.SessiondError and back.message == "a bug"


def test_a_reason_of_a_newer_daemon() -> None:
    status = to_status(errors.PermissionDenied("no"))
    info = error_details_pb2.ErrorInfo(reason="NEW", domain=DOMAIN)
    status.details[0].Pack(info)
    back = from_status(status)
    assert type(back) is errors.SessiondError and back.message == "no"


@pytest.mark.parametrize("domain", ["", "example.org"])
def test_who_is_not_us(domain: str) -> None:
    status = status_pb2.Status(code=5, message="x")
    assert from_status(status) is None
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="SESSION_BUSY", domain=domain))
    assert from_status(status) is None


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_status_without_its_detail_is_still_that_error(
    kind: type[errors.SessiondError], data: st.DataObject
) -> None:
    """An older daemon may not send it."""
    status = to_status(data.draw(SAMPLES[kind]))
    del status.details[1:]
    assert type(from_status(status)) is kind


def test_a_long_message_may_be_cut_on_its_way() -> None:
    status = to_status(errors.SessionUnavailable("x" * 5000))
    status.message = status.message[:2000]
    back = from_status(status)
    assert back is not None and len(back.message) == 2000
