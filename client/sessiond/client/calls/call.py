"""What a call is, whoever makes it: where it goes, its request, and what of an answer is handed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

Answer = TypeVar("Answer", bound=Message)
Part = TypeVar("Part")
Part_co = TypeVar("Part_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Unary(Generic[Part_co]):
    """A call with one answer, of which `pick` takes a part."""

    path: str
    request: Message
    answer: type[Message]
    pick: Callable[[Any], Part_co]


@dataclass(frozen=True, slots=True)
class Streaming(Generic[Part_co]):
    """A call with many answers. Of each `pick` takes a part, and one that is None is skipped."""

    path: str
    request: Message
    answer: type[Message]
    pick: Callable[[Any], Part_co | None]


def unary(path: str, request: Message, answer: type[Answer], pick: Callable[[Answer], Part]) -> Unary[Part]:
    """A call with one answer, its types checked against each other."""
    return Unary(path, request, answer, pick)


def streaming(
    path: str, request: Message, answer: type[Answer], pick: Callable[[Answer], Part | None]
) -> Streaming[Part]:
    """A call with many answers, its types checked against each other."""
    return Streaming(path, request, answer, pick)


def whole(answer: Answer) -> Answer:
    """An answer as it is."""
    return answer


def nothing(answer: Message) -> None:
    """Of an answer that says nothing but that it was done."""
