"""Readings with something in every place."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sessiond.daemon.engine import wire
from sessiond.daemon.metrics.reading import Reading
from sessiond.daemon.metrics.turns import TurnCounts
from sessiond.daemon.sessions.tally import Tally

DISK = wire.DiskTold(*range(1, 15))


def tallied(*numbers: int, disk: wire.DiskTold | None = None) -> wire.Tallied:
    """These numbers in their order."""
    names = [name for name in wire.Tallied.__struct_fields__ if name != "disk"]
    told: dict[str, Any] = dict(zip(names, numbers, strict=True))
    return wire.Tallied(**told, disk=disk)


def reading(disk: wire.DiskTold | None = DISK) -> Reading:
    """Of a daemon that did nothing yet, but has a disk."""
    return Reading(
        version="1.2.3",
        uptime_s=5.0,
        sessions=Counter(ready=2, busy=1),
        engines=1,
        engines_waiting=1,
        engine=tallied(*range(1, 12), disk=disk),
        cells=100,
        cells_bytes=1000,
        cells_free_bytes=2000,
        memory_tier_limit=3000,
        turns=TurnCounts(),
        background=Tally(),
    )
