"""Requests that nobody would send: made at random from the contract's descriptors, and then spoilt byte by byte.

All of it depends on the given random numbers alone, so that a seed names a run.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sessiond.v1 import (
    function_service_pb2,
    model_service_pb2,
    session_service_pb2,
    workspace_service_pb2,
)

SERVICES = (session_service_pb2, model_service_pb2, workspace_service_pb2, function_service_pb2)
DEPTH = 5
"""Messages within messages. The contract has no more."""
LONGEST = 20_000
"""Characters of a text."""
HUGE = 1 << 20
"""Characters of one that is rare."""
# None of these names a file that exists: who fuzzes as root must not have one read, or written to.
ODD_TEXTS = (
    *("", " ", "\0", "x\0y", "\n", "é", "\U0001f600", "\u202e", "\ufeff", "%s%n", "<|im_end|>"),
    *("..", "../../outside", "//x", "/nowhere/at/all", "~", "a/./b", "a//b", "-", ".", "con"),
    *("0", "-1", "1e999", "nan", "true", "null", "{}", "f16", "raw", "chatml", "user", "frame", "frame 0"),
    *("sessions/", "sessions/0", "sessions/../x", "Sessions/a", "$" * 300),
)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, -1e38, float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True)
class Rpc:
    """One rpc of the contract."""

    path: str
    request: type[Message]
    streams: bool


def rpcs() -> Iterator[Rpc]:
    """All of them."""
    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                yield Rpc(path, GetMessageClass(method.input_type), bool(method.server_streaming))


@dataclass
class Pool:
    """Texts that mean something to the daemon, by the name of the field where they do."""

    known: dict[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    never: frozenset[str] = frozenset()
    """Fields that are left out, because what they mean takes long and is tried elsewhere."""


class Maker:
    """Makes requests."""

    def __init__(self, rng: random.Random, pool: Pool) -> None:
        self._rng = rng
        self._pool = pool

    def data(self, kind: type[Message]) -> bytes:
        """The bytes of a request of this kind: mostly sound ones, sometimes spoilt, sometimes anything."""
        way = self._rng.random()
        if way < 0.05:
            return self._rng.randbytes(self._rng.randrange(200))
        message = kind()
        self._fill(message, DEPTH)
        told = message.SerializePartialToString()
        return told if way < 0.7 else spoilt(self._rng, told)

    def _fill(self, message: Any, depth: int) -> None:
        # With many fields set one of them is always refused, and with few the rest is never reached.
        share = self._rng.choice((0.05, 0.3, 0.8))
        for each in message.DESCRIPTOR.fields:
            if each.name in self._pool.never:
                continue
            # A name is what leads anywhere at all.
            if self._rng.random() < (0.95 if each.name == "name" else share):
                self._set(message, each, depth)

    def _set(self, message: Any, each: FieldDescriptor, depth: int) -> None:
        if each.message_type is not None:
            if depth == 0:
                return
            inner = getattr(message, each.name)
            for one in [inner.add() for _ in range(self._few())] if each.is_repeated else [inner]:
                one.SetInParent()
                self._fill(one, depth - 1)
        elif each.is_repeated:
            getattr(message, each.name).extend(self._value(each) for _ in range(self._few()))
        else:
            setattr(message, each.name, self._value(each))

    def _few(self) -> int:
        return self._rng.choice((0, 1, 1, 2, 3, self._rng.randrange(70)))

    def _value(self, each: FieldDescriptor) -> Any:
        match each.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                text = self._text(each.name)
                return text.encode() if each.type == FieldDescriptor.TYPE_BYTES else text
            case FieldDescriptor.CPPTYPE_BOOL:
                return self._rng.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self._rng.choice((*ODD_FLOATS, self._rng.uniform(-2.0, 2.0)))
            case FieldDescriptor.CPPTYPE_ENUM:
                return self._rng.choice((*range(5), -1, 1 << 30))
            case kind:
                return self._whole(kind)

    def _whole(self, kind: int) -> int:
        wide = kind in {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
        signed = kind in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
        bits = (64 if wide else 32) - signed
        least = -(1 << bits) if signed else 0
        small = self._rng.randrange(64)
        return self._rng.choice((0, 1, small, small, 1 << self._rng.randrange(bits), (1 << bits) - 1, least))

    def _text(self, name: str) -> str:
        known = self._pool.known.get(name, ())
        if known and self._rng.random() < 0.8:
            return self._rng.choice(known)
        if self._rng.random() < 0.6:
            return self._rng.choice(ODD_TEXTS)
        if self._rng.random() < 0.02:
            return self._rng.choice(("x", "é", " ", "/")) * HUGE
        size = self._rng.choice((3, 30, 300, self._rng.randrange(LONGEST)))
        text = "".join(self._rng.choices(string.printable + "äß\u20ac\U0001f980", k=size))
        return text.lstrip("/")  # or a snapshot might be written where somebody fuzzes as root


def spoilt(rng: random.Random, data: bytes) -> bytes:
    """The same with some bytes flipped, cut out, doubled or put in."""
    told = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(told) + 1)
        match rng.randrange(5):
            case 0 if at < len(told):
                told[at] ^= 1 << rng.randrange(8)
            case 1:
                del told[at : at + rng.randrange(1, 16)]
            case 2:
                told[at:at] = rng.randbytes(rng.randrange(1, 16))
            case 3:
                told[at:at] = told[: rng.randrange(1, 64)]
            case _:
                del told[at:]
    return bytes(told)
