"""Bytes that are no message, text that is no UTF-8, NUL bytes: typed errors, and nothing changes."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from tests.e2e.wire import MARK, RPCS, Place, Rpc, places, refusal

from sessiond.client import Client, InvalidInput, ManifestMismatch, Session, UnsupportedFeature

TEXTS = places(FieldDescriptor.TYPE_STRING)
RPCS_WITH_TEXT = {place.rpc.name for place in TEXTS}


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_bytes_that_are_no_protobuf(channel: grpc.Channel, settled: Session, rpc: Rpc) -> None:
    before = settled.explain()
    for data in (b"\xff" * 8, b"\x0a\xff", b"\x0a\x05abc"):
        raised = refusal(channel, rpc, data)
        assert isinstance(raised, InvalidInput)
        assert [violation.field for violation in raised.violations] == ["request"]
    assert settled.explain() == before


@pytest.mark.parametrize("place", TEXTS, ids=str)
def test_text_that_is_not_utf8(channel: grpc.Channel, settled: Session, place: Place) -> None:
    before = settled.explain()
    data = place.request(settled.name, MARK).SerializeToString()
    for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80"):
        spoilt = data.replace(MARK.encode(), bad + b"a" * (len(MARK) - len(bad)))
        assert spoilt != data
        assert isinstance(refusal(channel, place.rpc, spoilt), InvalidInput)
    assert settled.explain() == before


@pytest.mark.parametrize("place", TEXTS, ids=str)
def test_a_nul_byte_in_a_text(client: Client, channel: grpc.Channel, settled: Session, place: Place) -> None:
    before = settled.explain()
    sessions = len(client.sessions())
    data = place.request(settled.name, "x\0y").SerializeToString()
    raised = refusal(channel, place.rpc, data)
    if "expect" in place.names:
        assert isinstance(raised, ManifestMismatch | InvalidInput)
    elif place.rpc.is_gap and place.names != ("name",):
        assert isinstance(raised, UnsupportedFeature | InvalidInput)
    elif place.rpc.is_gap:
        assert isinstance(raised, InvalidInput | UnsupportedFeature)
    else:
        assert isinstance(raised, InvalidInput)
        assert any(place.leaf.name in violation.field for violation in raised.violations), raised
    assert settled.explain() == before
    assert len(client.sessions()) == sessions


def test_every_rpc_that_takes_text_is_covered() -> None:
    without = {
        "SessionService.ListSessions",
        "ModelService.ListModels",
        "ModelService.GetRuntime",
        "FunctionService.ListFunctions",
    }
    assert {rpc.name for rpc in RPCS} - RPCS_WITH_TEXT == without
