"""What the tier has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What happened since the process began."""

    kv_bytes: int = 0
    """KV that was taken in to be written, and was."""
    file_bytes: int = 0
    """Bytes of the files that were written for it, also of those that failed. Over `kv_bytes`: the amplification."""
    written: int = 0
    read: int = 0
    missed: int = 0
    """Entries that were to be read and could not be."""
    damaged: int = 0
    evicted: int = 0
    dropped: int = 0
    """Entries that were not written, since more was to be than could wait, or what was used since took the room."""
    set_aside: int = 0
