"""Of any message come its numbers, and of texts none but the few that are words of ours."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sessiond.client.support.figures import figures
from sessiond.v1 import config_pb2, model_service_pb2

MARK = "QuetzalcoatlSleeps"


def _fill(message: Message, depth: int = 3) -> None:
    """Something in every field, the mark in every text."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value[MARK] = MARK
        elif field.message_type is not None:
            if depth:
                _fill(value.add() if field.is_repeated else value, depth - 1)
                if not field.is_repeated:
                    value.SetInParent()
        else:
            one = _value(field)
            if field.is_repeated:
                value.append(one)
            else:
                setattr(message, field.name, one)


def _value(field: Any) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "cold" if field.full_name == "sessiond.v1.FirstTokens.kind" else MARK
    if field.type == FieldDescriptor.TYPE_BYTES:
        return MARK.encode()
    return field.type == FieldDescriptor.TYPE_BOOL or 1


def test_no_text_of_a_status_comes_through() -> None:
    runtime = model_service_pb2.GetRuntimeResponse()
    _fill(runtime)
    assert MARK in str(runtime)
    told = figures(runtime)
    assert MARK not in json.dumps(told)
    assert told["arenas"] == [{"cells": 1, "kv_bytes": 1, "running_turns": 1}]
    assert told["activity"]["first_tokens"] == [{"kind": "cold", "turns": 1, "mean_ms": 1.0}]


def test_choices_are_told_by_name() -> None:
    config = config_pb2.Config(flash_attn=config_pb2.FLASH_ATTN_ON, num_ctx=5, kv_cache_type=MARK)
    assert figures(config) == {"flash_attn": "FLASH_ATTN_ON", "num_ctx": 5}


def test_a_choice_that_this_client_does_not_know_is_a_number() -> None:
    config = config_pb2.Config.FromString(config_pb2.Config(flash_attn=99).SerializeToString())  # type: ignore[arg-type]  # from a newer daemon
    assert figures(config) == {"flash_attn": 99}
