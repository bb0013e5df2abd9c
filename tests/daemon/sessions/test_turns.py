"""The gate of a session: one turn at a time, and how it ends early."""

from __future__ import annotations

import asyncio
import time

import pytest

from sessiond.daemon.sessions import turn as turn_module
from sessiond.daemon.sessions.turn import Turns
from sessiond.v1.errors import SessionBusy, SessionClosed, SessionFatal


class Gate:
    """Turns, and how often they said that something changed."""

    def __init__(self) -> None:
        self.changes = 0
        self.turns = Turns("sessions/a", self._changed)
        self.go_on = asyncio.Event()

    def _changed(self) -> None:
        self.changes += 1

    async def hold(self, name: str = "prefix") -> str:
        async with self.turns.turn(name):
            await self.go_on.wait()
        return name


async def _started(gate: Gate) -> asyncio.Task[str]:
    task = asyncio.create_task(gate.hold())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gate.turns.running
    return task


async def test_one_at_a_time() -> None:
    gate = Gate()
    running = await _started(gate)
    begun = time.monotonic()
    with pytest.raises(SessionBusy) as raised:
        await gate.hold()
    assert turn_module.GRACE_S <= time.monotonic() - begun < turn_module.GRACE_S + 1
    assert raised.value.name == "sessions/a"
    gate.go_on.set()
    assert await running == "prefix"
    assert not gate.turns.running
    assert gate.changes == 2
    assert await gate.hold() == "prefix"


async def test_one_that_just_ends_is_waited_for() -> None:
    gate = Gate()
    running = await _started(gate)
    next_one = asyncio.create_task(gate.hold())
    await asyncio.sleep(turn_module.GRACE_S / 4)
    running.cancel()
    gate.go_on.set()
    assert await next_one == "prefix"
    assert running.cancelled()


async def test_of_several_that_wait_one_gets_in_at_a_time() -> None:
    gate = Gate()
    inside, most = 0, 0

    async def once() -> None:
        nonlocal inside, most
        async with gate.turns.turn("prefix"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.005)
            inside -= 1

    await asyncio.gather(*(once() for _ in range(8)))
    assert most == 1


async def test_an_end_is_for_later_turns_and_cancels_no_task() -> None:
    """What runs may be busy with something that is not the session's; its own next step tells it."""
    gate = Gate()
    running = await _started(gate)
    why = SessionClosed("sessions/a")
    gate.turns.end(why)
    with pytest.raises(SessionClosed):
        gate.turns.check_open()
    await asyncio.sleep(0.01)
    assert not running.done()
    gate.go_on.set()
    assert await running == "prefix"
    for _ in range(2):
        with pytest.raises(SessionClosed):
            await gate.hold()


async def test_a_client_s_cancel_stays_one() -> None:
    gate = Gate()
    running = await _started(gate)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not gate.turns.running


async def test_who_waits_for_the_gate_is_told_of_the_end() -> None:
    gate = Gate()
    running = await _started(gate)
    waiting = asyncio.create_task(gate.hold())
    await asyncio.sleep(0.01)
    gate.turns.end(SessionFatal("signal 11"))
    with pytest.raises(SessionFatal):
        await waiting
    gate.go_on.set()
    assert await running == "prefix"


async def test_an_error_of_the_turn_opens_the_gate() -> None:
    gate = Gate()
    with pytest.raises(RuntimeError):
        async with gate.turns.turn("prefix"):
            raise RuntimeError
    gate.go_on.set()
    assert await gate.hold() == "prefix"


async def test_what_runs_is_told() -> None:
    gate = Gate()
    assert gate.turns.busy() is None
    async with gate.turns.turn("prefix"):
        gate.turns.note("suffix", 3, 10)
        busy = gate.turns.busy()
        assert busy is not None
        assert (busy.stage, busy.done_tokens, busy.total_tokens) == ("suffix", 3, 10)
        assert busy.elapsed_ms >= 0
    assert gate.turns.busy() is None
