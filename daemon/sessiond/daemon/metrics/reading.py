"""All figures of one daemon at one moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sessiond.daemon.engine import wire
from sessiond.daemon.metrics.turns import TurnCounts
from sessiond.daemon.sessions.tally import Tally


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands at this moment, and the counts, which go on."""

    version: str
    uptime_s: float
    sessions: Counter[str]
    """By state."""
    engines: int
    engines_waiting: int
    engine: wire.Tallied
    """Of all engines together."""
    cells: int
    cells_bytes: int
    cells_free_bytes: int
    memory_tier_limit: int
    turns: TurnCounts
    background: Tally
