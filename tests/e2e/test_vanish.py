"""The short form of `scripts/vanish.py`: clients that vanish leave nothing behind."""

from __future__ import annotations

from vanish import vanish


async def test_clients_that_vanish_leave_nothing_behind() -> None:
    found = await vanish("scripted-kv:num_ctx=2048,step_ms=2", clients=40, at_once=10, seed=6)
    assert found.left == {}
    assert sum(found.did.values()) == 40
    assert {"closed in mid-call", "closed in mid-message", "reset", "killed"} <= set(found.did)
    assert found.after.calls == found.after.sessions == found.after.branches == found.after.cells == 0
