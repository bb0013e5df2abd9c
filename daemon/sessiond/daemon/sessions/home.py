"""Where the branches of sessions live."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.engine.seat import Seat


@dataclass(frozen=True, slots=True)
class Home:
    """One arena of one engine, whichever process that is now."""

    seat: Seat
    arena: str
    root: str
    """Of the workspace; empty if there is none."""
    memory: KvMemory
    cell_bytes: int
    """Of KV for each token."""
    settings: ContextSettings
    """What a branch is opened with there."""
    apart: bool = False
    """Whether KV stands there that others answer for: from a snapshot of somebody else."""

    @property
    def engine(self) -> Engine:
        """The one that stands, or the one that stood last."""
        return self.seat.engine

    def quiet_s(self, root: Path) -> float:
        """Seconds since anything ended that ran for this workspace, on whatever arena; 0 while something runs."""
        here = [each for each in self.memory.records() if each.root == str(root)]
        if any(each.turns or each.background for each in here):
            return 0.0
        return time.monotonic() - max((each.used for each in here), default=-math.inf)
