"""What is not there yet answers UNSUPPORTED_FEATURE: nothing is silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.e2e.daemon import Daemon
from tests.e2e.wire import RPCS, Rpc, info_of, send, status_of

from sessiond.client import Client, Session, UnsupportedFeature
from sessiond.v1.errors_pb2 import UnsupportedFeature as Detail

ASKS: dict[str, tuple[Callable[[Session], Any], str]] = {
    "fim": (lambda session: session.prefill_suffix(fim=("a", "b")), "fim"),
    "fim in a turn": (lambda session: list(session.complete(fim=("a", "b"))), "fim"),
}


@pytest.mark.parametrize("what", ASKS)
def test_a_gap_is_named_and_changes_nothing(session: Session, what: str) -> None:
    session.ensure_prefix("xxxx")
    before = session.explain()
    ask, feature = ASKS[what]
    with pytest.raises(UnsupportedFeature) as caught:
        ask(session)
    assert caught.value.feature == feature
    assert session.explain() == before


def test_embed(client: Client) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        client.embed(["x"])
    assert (caught.value.feature, caught.value.backend) == ("embed", "scripted-kv")


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc.name.startswith("FunctionService")], ids=str)
def test_services_to_come(daemon: Daemon, rpc: Rpc) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(daemon.channel(), rpc, b"")
    status = status_of(caught.value)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert info_of(status).reason == "UNSUPPORTED_FEATURE"
    assert info_of(status).metadata["feature"] == rpc.name
    detail = Detail()
    assert status.details[1].Unpack(detail)
    assert detail.feature == rpc.name


def test_capabilities_do_not_promise_the_gaps(client: Client) -> None:
    able = client.model().capabilities
    assert able.session and able.fork and able.grammar and able.logprobs
    assert not any((able.embed, able.fim))
