"""The short form of `scripts/soak.py`: mixed load from many clients, and nothing fails."""

from __future__ import annotations

from soak import soak


def test_mixed_load_fails_nowhere() -> None:
    found = soak("scripted-kv:num_ctx=4096", minutes=0.2, clients=4)
    assert found.faults == []
    assert found.turns > 50
    # Too short for a verdict on memory, long enough to see it run away.
    assert max(found.growth.values()) < 2
