"""What is asked of an assembly beside the files themselves: pins, unsaved buffers, the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sessiond.daemon.workspace.order import BY_PATH, Order


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of the assembly of one workspace beside its files. Paths are relative to its root."""

    pinned: tuple[str, ...] = ()
    """By editors. They go in first and stand in front, whatever the order says; the earliest one has the best
    chance if not all fit. What is ignored, secret or no text stays out all the same."""
    buffers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Unsaved text that wins over the file, which need not exist yet."""
    order: Order = BY_PATH
    """In which files stand, unless the workspace's configuration wants another."""


NO_WISHES = Wishes()
