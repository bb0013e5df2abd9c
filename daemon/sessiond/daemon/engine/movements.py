"""How many tokens' KV an engine computed, and how many moved between its tiers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Movements:
    """In tokens, since the engine began. Counted in the loop's thread; any may read."""

    computed: int = 0
    """Into the cells, also those that were there already."""
    kept: int = 0
    """From the cells to memory."""
    dropped: int = 0
    """From the cells to nowhere."""
    forgotten: int = 0
    """From memory to nowhere, since its limit was met."""
    restored: int = 0
    """From memory to the cells."""
    fetched: int = 0
    """From the disk to the cells."""
