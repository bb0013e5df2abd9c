"""Snapshots: a session as a file, with its KV. See docs/snapshot-format.md and ADR 14."""

from __future__ import annotations

from pathlib import Path

from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot.restore import Restored, restore
from sessiond.daemon.sessions.snapshot.save import save
from sessiond.daemon.sessions.snapshot.seal import Seal

__all__ = ["Restored", "Snapshots"]


class Snapshots:
    """`key` is the file of the key with which this daemon seals what it saves; without one all KV is somebody else's."""

    def __init__(self, key: Path | None = None) -> None:
        self._seal = Seal(key)

    async def save(self, session: Session, path: Path) -> int:
        """See `save.save`."""
        return await save(session, path, self._seal)

    async def restore(self, session: Session, path: Path) -> Restored:
        """See `restore.restore`."""
        return await restore(session, path, self._seal)
