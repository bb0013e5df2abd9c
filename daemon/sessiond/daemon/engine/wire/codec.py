"""Messages as bytes: a length, and msgpack. Tokens travel as native 32-bit numbers in one piece of bytes."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from sessiond.daemon.engine.wire.commands import AnyCommand
from sessiond.daemon.engine.wire.events import AnyEvent

PREFIX = struct.Struct("<I")
T = TypeVar("T")

MAX_FRAME = 1 << 30
"""Bytes. A longer frame is a fault of the other side."""

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
_events: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(AnyEvent)


def encode(message: AnyCommand | AnyEvent) -> bytes:
    """One frame, its length first."""
    body = _encoder.encode(message)
    return PREFIX.pack(len(body)) + body


def decode_command(body: bytes) -> AnyCommand:
    """A frame's body. Raises msgspec.DecodeError."""
    return _decoded(_commands, body)


def decode_event(body: bytes) -> AnyEvent:
    """A frame's body. Raises msgspec.DecodeError."""
    return _decoded(_events, body)


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (
        UnicodeDecodeError
    ) as error:  # a tag that is no UTF-8 is told otherwise than all else that is wrong
        raise msgspec.ValidationError(str(error)) from error


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Tokens as native 32-bit numbers."""
    return array("i", tokens).tobytes()


def unpack_tokens(data: bytes) -> list[int]:
    """What `pack_tokens` packed. Raises msgspec.ValidationError for bytes that are no whole numbers."""
    try:
        return array("i", data).tolist()
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error
