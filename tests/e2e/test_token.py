"""Without the right token every rpc answers the same, whatever is asked: byte by byte, and before it is even read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.e2e.daemon import Daemon, short_folder
from tests.e2e.wire import RPCS, Rpc

from raw_grpc import RawCall

TOKEN = "right-token"
PATHS = [
    *(rpc.path for rpc in RPCS),
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/sessiond.v1.SessionService/NoSuchRpc",
    "/no.such.Service/Nothing",
]
NAMED = [rpc for rpc in RPCS if "name" in rpc.request.DESCRIPTOR.fields_by_name]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Daemon]:
    """A daemon that asks for a token, with one session."""
    flags = ("--max-message-bytes", str(1 << 16))
    with short_folder() as folder, Daemon(folder, "scripted-kv:num_ctx=512", *flags, token=TOKEN) as daemon:
        daemon.client.open_session(key="secret").ensure_prefix("xx")
        yield daemon


def _heard(daemon: Daemon, path: str, message: bytes | None, token: str) -> bytes:
    with RawCall(str(daemon.socket), path, token) as call:
        if message is not None:
            call.send(message)
        return call.trailers()


def _named(rpc: Rpc, name: str) -> bytes:
    message: Any = rpc.request()
    message.name = name
    return bytes(message.SerializeToString())


def test_all_refusals_are_the_same_bytes(guarded: Daemon) -> None:
    told = {
        _heard(guarded, path, message, token)
        for path in PATHS
        for token in ("", "wrong", TOKEN[:-1], TOKEN + "x")
        for message in (b"", b"\xff" * 8)
    }
    assert len(told) == 1
    [same] = told
    assert b"a valid token is needed" in same


@pytest.mark.parametrize("rpc", NAMED, ids=str)
def test_no_rpc_tells_whether_a_session_exists(guarded: Daemon, rpc: Rpc) -> None:
    [existing] = guarded.client.sessions()
    names = (existing.name, "sessions/0123456789abcdef", "sessions/", "", "x" * 10_000)
    told = {_heard(guarded, rpc.path, _named(rpc, name), token) for name in names for token in ("", "wrong")}
    assert len(told) == 1
    assert guarded.client.sessions() == [existing], "and nothing happened to it"


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_does_not_wait_for_the_request(guarded: Daemon, path: str) -> None:
    assert b"a valid token is needed" in _heard(guarded, path, None, "wrong")


def test_a_message_that_is_too_large_is_refused_as_any_other(guarded: Daemon) -> None:
    stranger: Any = guarded.channel().unary_unary("/sessiond.v1.SessionService/GetSession")
    with pytest.raises(grpc.RpcError) as caught:
        stranger(b"x" * (1 << 20), timeout=60, metadata=(("authorization", "Bearer wrong"),))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_the_token_is_asked_for_in_one_form_only(guarded: Daemon) -> None:
    ask: Any = guarded.channel().unary_unary("/sessiond.v1.SessionService/ListSessions")
    ask(b"", timeout=30, metadata=(("authorization", f"Bearer {TOKEN}"),))
    for given in (TOKEN, f"bearer {TOKEN}", f"Bearer  {TOKEN}", f"Bearer {TOKEN} ", f"Basic {TOKEN}"):
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", timeout=30, metadata=(("authorization", given),))
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
