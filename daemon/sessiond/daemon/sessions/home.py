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
    left: Home | None = None
    """The home that was left for this one, if KV stands here that others answer for: from a snapshot of somebody else."""

    @property
    def apart(self) -> bool:
        """Whether it is nobody else's."""
        return self.left is not None

    @property
    def shared(self) -> Home:
        """Where KV belongs that we answer for."""
        return self.left or self

    @property
    def engine(self) -> Engine:
        """The one that stands, or the one that stood last."""
        return self.seat.engine

    def settings_on(self, engine: Engine) -> ContextSettings:
        """What the arena was made with there. Only the number of its cells may be another than in `settings`: that is
        decided by the memory of the moment.
        """
        return self.memory.settings(engine, self.arena) or self.settings

    def quiet_s(self, root: Path) -> float:
        """Seconds since anything ended that ran for this workspace, on whatever arena; 0 while something runs."""
        here = [each for each in self.memory.records() if each.root == str(root)]
        if any(each.turns or each.background for each in here):
            return 0.0
        return time.monotonic() - max((each.used for each in here), default=-math.inf)
