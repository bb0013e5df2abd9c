"""Each error as it travels: code, ErrorInfo with every figure, its own detail message."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from tests.e2e.daemon import Daemon
from tests.e2e.turns import in_background, wait_for_stage
from tests.e2e.wire import RPCS, info_of, send, status_of

from sessiond.client import Session
from sessiond.v1 import errors_pb2
from sessiond.v1 import session_service_pb2 as pb
from sessiond.v1.config_pb2 import Config
from sessiond.v1.context_pb2 import ContextManifest, FimInput, PrefixInput, SuffixInput


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Slow enough to be caught at work."""
    return "scripted-kv:num_ctx=2048,step_ms=20"


def _fails(
    daemon: Daemon, name: str, request: Message, code: grpc.StatusCode, reason: str
) -> tuple[Any, dict[str, str]]:
    """The status of a call that fails so, and the figures of its ErrorInfo."""
    rpc = next(rpc for rpc in RPCS if rpc.name == f"SessionService.{name}")
    with pytest.raises(grpc.RpcError) as caught:
        send(daemon.channel(), rpc, request.SerializeToString())
    status = status_of(caught.value)
    info = info_of(status)
    assert caught.value.code() == code
    assert status.code == code.value[0]
    assert status.message == caught.value.details()
    assert info.reason == reason
    for figure in ",".join(info.metadata.values()).split(","):
        assert figure in status.message, "every figure of the metadata stands in the sentence"
    return status, dict(info.metadata)


def test_context_overflow(daemon: Daemon, session: Session) -> None:
    session.ensure_prefix("x" * 10)
    request = pb.PrefillSuffixRequest(name=session.name, suffix=SuffixInput(text="y" * 2048))
    status, told = _fails(daemon, "PrefillSuffix", request, grpc.StatusCode.OUT_OF_RANGE, "CONTEXT_OVERFLOW")
    assert told == {
        "stage": "suffix", "resident_tokens": "10", "additional_tokens": "2048", "num_ctx": "2048",
    }  # fmt: skip
    detail = errors_pb2.ContextOverflow()
    assert status.details[1].Unpack(detail)
    assert detail == errors_pb2.ContextOverflow(
        stage="suffix", resident_tokens=10, additional_tokens=2048, num_ctx=2048
    )


def test_manifest_mismatch(daemon: Daemon, session: Session) -> None:
    expect = session.explain().manifest
    expect.model_digest, expect.add_bos = "wrong", not expect.add_bos
    request = pb.EnsurePrefixRequest(name=session.name, prefix=PrefixInput(expect=expect))
    status, told = _fails(
        daemon, "EnsurePrefix", request, grpc.StatusCode.FAILED_PRECONDITION, "MANIFEST_MISMATCH"
    )
    assert set(told["fields"].split(",")) == {"model_digest", "add_bos"}
    detail = errors_pb2.ManifestMismatch()
    assert status.details[1].Unpack(detail)
    wrong = {field.name: (field.expected, field.actual) for field in detail.fields}
    assert wrong["model_digest"] == ("wrong", session.explain().manifest.model_digest)


def test_manifest_mismatch_of_very_many_fields_still_arrives(daemon: Daemon, session: Session) -> None:
    session.ensure_prefix(segments=[(f"s{index}", "xyz") for index in range(500)])
    request = pb.PrefillSuffixRequest(name=session.name, suffix=SuffixInput(expect=ContextManifest()))
    _fails(daemon, "PrefillSuffix", request, grpc.StatusCode.FAILED_PRECONDITION, "MANIFEST_MISMATCH")


def test_unsupported_feature(daemon: Daemon, session: Session) -> None:
    request = pb.PrefillSuffixRequest(name=session.name, suffix=SuffixInput(fim=FimInput(before="x")))
    status, told = _fails(
        daemon, "PrefillSuffix", request, grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_FEATURE"
    )
    assert told == {"feature": "fim", "backend": "scripted-kv"}
    detail = errors_pb2.UnsupportedFeature()
    assert status.details[1].Unpack(detail)
    assert (detail.feature, detail.backend) == ("fim", "scripted-kv")


def test_session_not_found(daemon: Daemon) -> None:
    request = pb.GetSessionRequest(name="sessions/0000")
    status, told = _fails(daemon, "GetSession", request, grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert told == {"name": "sessions/0000"} and len(status.details) == 1


def test_session_closed(daemon: Daemon, session: Session) -> None:
    session.close()
    request = pb.EnsurePrefixRequest(name=session.name)
    status, told = _fails(
        daemon, "EnsurePrefix", request, grpc.StatusCode.FAILED_PRECONDITION, "SESSION_CLOSED"
    )
    assert told == {"name": session.name} and len(status.details) == 1


def test_session_busy(daemon: Daemon, session: Session) -> None:
    with in_background(lambda: session.ensure_prefix("x" * 2000)):
        wait_for_stage(session, "prefix")
        request = pb.EnsurePrefixRequest(name=session.name)
        status, told = _fails(daemon, "EnsurePrefix", request, grpc.StatusCode.ABORTED, "SESSION_BUSY")
    assert told == {"name": session.name} and len(status.details) == 1


def test_invalid_input(daemon: Daemon) -> None:
    request = pb.OpenSessionRequest(key="a\0", config=Config(num_ctx=-1))
    status, told = _fails(daemon, "OpenSession", request, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert set(told["fields"].split(",")) == {"key", "config.num_ctx"}
    detail = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(detail)
    assert {violation.field for violation in detail.field_violations} == {"key", "config.num_ctx"}
    assert all(violation.description for violation in detail.field_violations)


def test_a_wrong_template_digest_is_a_mismatch(daemon: Daemon) -> None:
    request = pb.OpenSessionRequest(config=Config(prompt_template_digest="0" * 64))
    _, told = _fails(daemon, "OpenSession", request, grpc.StatusCode.FAILED_PRECONDITION, "MANIFEST_MISMATCH")
    assert told == {"fields": "prompt_template_digest"}


@pytest.mark.parametrize("field", ["kv_cache_type", "prompt_format"])
def test_a_setting_that_the_backend_does_not_know(daemon: Daemon, field: str) -> None:
    request = pb.OpenSessionRequest(config=Config(**{field: "nonsense"}))  # type: ignore[arg-type]
    _, told = _fails(daemon, "OpenSession", request, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert told == {"fields": f"config.{field}"}
    assert daemon.client.healthy()


def test_session_unavailable(daemon: Daemon) -> None:
    request = pb.OpenSessionRequest(model="scripted-kv:die=SIGSEGV@load")
    status, _ = _fails(daemon, "OpenSession", request, grpc.StatusCode.UNAVAILABLE, "SESSION_UNAVAILABLE")
    assert "SIGSEGV" in status.message and len(status.details) == 1


def test_an_error_with_letters_of_other_scripts_arrives_whole(daemon: Daemon) -> None:
    request = pb.OpenSessionRequest(model="/nirgends/Größe/モデル.gguf")
    _fails(daemon, "OpenSession", request, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
