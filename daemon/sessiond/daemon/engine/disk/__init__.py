"""The disk tier: KV that outlives the engine. See docs/disk-format.md for what stands on the disk.

The engine's loop uses `DiskTier`, with a `Space` for each arena.
"""

from sessiond.daemon.engine.disk.catalogue import Found, Run
from sessiond.daemon.engine.disk.keys import Space, space
from sessiond.daemon.engine.disk.tier import DiskTier, Facts

__all__ = ["DiskTier", "Facts", "Found", "Run", "Space", "space"]
