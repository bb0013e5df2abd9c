"""A worker tells whoever asked how it ended, also where the answer cannot be sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.worker import Worker


@pytest.fixture
def pair() -> Iterator[tuple[Worker, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield Worker(theirs), ours


def _fails() -> wire.Answer:
    raise ValueError("half a character: \ud800")


@pytest.mark.parametrize("act", [lambda: wire.Framed(["\ud800"], ""), _fails], ids=["answer", "error"])
def test_what_no_message_can_hold_is_a_failure_that_is_told(
    pair: tuple[Worker, socket.socket], act: Callable[[], wire.Answer]
) -> None:
    worker, ours = pair
    worker._answer(7, act)
    (size,) = wire.PREFIX.unpack(ours.recv(wire.PREFIX.size, socket.MSG_WAITALL))
    event = wire.decode_event(ours.recv(size, socket.MSG_WAITALL))
    assert isinstance(event, wire.Failed)
    assert (event.id, event.kind) == (7, "backend")
