"""Of a message of the contract what cannot be anybody's: numbers, switches and choices, and no text."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_TEXTS = frozenset({"sessiond.v1.FirstTokens.kind"})
"""Fields whose text is one of a few words of ours."""


def figures(message: Message) -> dict[str, Any]:
    """By field name. Maps stay out, and so does every text and all bytes: also in fields that are yet to come."""
    told: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
            if field.full_name in _TEXTS:
                told[field.name] = value
            continue
        told[field.name] = (
            [_figure(field, each) for each in value] if field.is_repeated else _figure(field, value)
        )
    return told


def _figure(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return figures(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value
