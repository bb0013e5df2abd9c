"""Numbers and enum values that make no sense: refused by name, and nothing changes."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from tests.e2e.daemon import Daemon
from tests.e2e.wire import RPCS, Place, fields_of, places, refusal

from sessiond.client import InvalidInput, Session
from sessiond.v1.config_pb2 import Config, DecodeConfig

WHOLE = {
    FieldDescriptor.TYPE_INT32: (1 << 31) - 1,
    FieldDescriptor.TYPE_INT64: (1 << 63) - 1,
    FieldDescriptor.TYPE_UINT32: (1 << 32) - 1,
    FieldDescriptor.TYPE_UINT64: (1 << 64) - 1,
}
REAL = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
"""Types of numbers, and the largest of each."""

LEAST = {"repeat_last_n": -1}
"""Fields with a meaning below zero."""

OPEN, DECODE, COMPLETE, ENSURE = (
    next(rpc for rpc in RPCS if rpc.name == f"SessionService.{name}")
    for name in ("OpenSession", "Decode", "Complete", "EnsurePrefix")
)


def _numbers() -> list[Place]:
    found: list[Place] = []
    for rpc, kind in ((OPEN, Config), (DECODE, DecodeConfig), (COMPLETE, DecodeConfig)):
        at: tuple[Any, ...] = (rpc.request.DESCRIPTOR.fields_by_name["config"],)
        found += [Place(rpc, way) for way in fields_of(kind.DESCRIPTOR, *WHOLE, *REAL, at=at)]
    return found


def _values(field: FieldDescriptor, *, huge: bool) -> list[Any]:
    if field.type in REAL:
        return [1e300, math.inf, math.nan] if huge else [-1e9, -math.inf]
    return [WHOLE[field.type]] if huge else [LEAST.get(field.name, 0) - 1, ~WHOLE[field.type]]


NUMBERS = _numbers()
ENUMS = places(FieldDescriptor.TYPE_ENUM)


def _refused(channel: grpc.Channel, session: Session, place: Place, value: Any) -> None:
    before, sessions = session.explain(), session.info()
    raised = refusal(channel, place.rpc, place.request(session.name, value).SerializeToString())
    assert isinstance(raised, InvalidInput), raised
    assert len(raised.violations) == 1
    told = raised.violations[0].field
    assert told.startswith("config.") and place.leaf.name in told
    assert session.explain() == before
    assert session.info() == sessions


@pytest.mark.parametrize("place", NUMBERS, ids=str)
def test_a_negative_number(channel: grpc.Channel, settled: Session, place: Place) -> None:
    for value in _values(place.leaf, huge=False):
        if place.leaf.name == "bias" and value == -math.inf:
            continue  # forbids the token
        _refused(channel, settled, place, value)


@pytest.mark.parametrize("place", NUMBERS, ids=str)
def test_a_huge_number_infinity_and_no_number(channel: grpc.Channel, settled: Session, place: Place) -> None:
    for value in _values(place.leaf, huge=True):
        _refused(channel, settled, place, value)


@pytest.mark.parametrize("place", ENUMS, ids=str)
@pytest.mark.parametrize("number", [99, -1])
def test_an_unknown_enum_number(channel: grpc.Channel, settled: Session, place: Place, number: int) -> None:
    before = settled.explain()
    raised = refusal(channel, place.rpc, place.request(settled.name, number).SerializeToString())
    if place.rpc.is_gap:
        assert raised.reason in {"INVALID_INPUT", "UNSUPPORTED_FEATURE"}
    else:
        assert isinstance(raised, InvalidInput), raised
        assert [violation.field.rpartition(".")[2] for violation in raised.violations] == [place.leaf.name]
    assert settled.explain() == before


@pytest.mark.parametrize("value", [-1, (1 << 31) - 1])
def test_a_senseless_budget_for_the_workspace(channel: grpc.Channel, settled: Session, value: int) -> None:
    way = next(
        way
        for way in fields_of(ENSURE.request.DESCRIPTOR, FieldDescriptor.TYPE_INT32)
        if way[-1].name == "max_tokens"
    )
    raised = refusal(channel, ENSURE, Place(ENSURE, way).request(settled.name, value).SerializeToString())
    assert isinstance(raised, InvalidInput)
    assert raised.violations[0].field == "prefix.workspace.max_tokens"


def test_every_malformed_field_is_named_at_once(channel: grpc.Channel) -> None:
    config = Config(num_ctx=-1, num_batch=-1, rope_freq_base=math.nan, kv_cache_type="\0")
    raised = refusal(channel, OPEN, OPEN.request(config=config).SerializeToString())
    assert isinstance(raised, InvalidInput)
    assert {violation.field for violation in raised.violations} == {
        "config.num_ctx",
        "config.num_batch",
        "config.rope_freq_base",
        "config.kv_cache_type",
    }


def test_a_list_that_is_too_long_is_refused_and_not_cut(channel: grpc.Channel) -> None:
    """Nothing is silently ignored."""
    config = Config()
    for index in range(17):
        config.lora.add(path=f"/nowhere/{index}.gguf")
    raised = refusal(channel, OPEN, OPEN.request(config=config).SerializeToString())
    assert isinstance(raised, InvalidInput)
    assert any(violation.field == "config.lora" for violation in raised.violations), raised


@pytest.mark.parametrize("tokens", [[-1], [1 << 30], [0, 1, -5]])
def test_tokens_that_are_not_in_the_vocabulary(daemon: Daemon, tokens: list[int]) -> None:
    with pytest.raises(InvalidInput) as caught:
        daemon.client.detokenize(tokens)
    assert caught.value.violations[0].field == "token_ids"


def test_a_bias_on_a_token_that_is_not_in_the_vocabulary(daemon: Daemon, settled: Session) -> None:
    from sessiond.v1.config_pb2 import LogitBias

    before = settled.explain()
    with pytest.raises(InvalidInput) as caught:
        list(settled.decode(max_tokens=1, logit_bias=[LogitBias(token_id=1 << 20, bias=1.0)]))
    assert "logit_bias" in caught.value.violations[0].field
    assert settled.explain() == before
