"""Where the branches of sessions live."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.memory import KvMemory


@dataclass(frozen=True, slots=True)
class Home:
    """One arena of one engine."""

    engine: Engine
    arena: str
    memory: KvMemory
    cell_bytes: int
    """Of KV for each token."""
    settings: ContextSettings
    """What a branch is opened with there."""
