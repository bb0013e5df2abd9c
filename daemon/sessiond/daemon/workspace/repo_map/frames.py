"""What goes between the daemon and its parser: length-prefixed msgpack over two pipes."""

from __future__ import annotations

import struct
from typing import IO, TypeVar

import msgspec

MAX_FRAME = 16 * 1024 * 1024
"""Bytes. No text and no outline is as long."""

_LENGTH = struct.Struct("<I")
T = TypeVar("T")


class Text(msgspec.Struct, frozen=True, tag=True):
    """To be parsed. The answer is its `Outline`."""

    language: str
    source: bytes


def write_frame(pipe: IO[bytes], message: object) -> None:
    """Send a message. Raises OSError if nobody reads."""
    data = msgspec.msgpack.encode(message)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def read_frame(pipe: IO[bytes], kind: type[T]) -> T:
    """Wait for a message. Raises EOFError at the end, and ValueError if it is not of that kind, or too long."""
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    if length > MAX_FRAME:
        raise ValueError(f"a frame of {length:,} bytes")
    return msgspec.msgpack.decode(_read(pipe, length), type=kind)


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
