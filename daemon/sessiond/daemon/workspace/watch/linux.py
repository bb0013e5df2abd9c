"""Changes on Linux, from inotify. Nothing runs while nothing happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from sessiond.daemon.workspace.watch.folders import Folders
from sessiond.daemon.workspace.watch.hints import Hints
from sessiond.daemon.workspace.watch.interest import Interest
from sessiond.daemon.workspace.watch.root import Identity
from sessiond.daemon.workspace.watch.thread import OwnThread

_GATHER: Final = 0.01
"""Seconds between the first event and reading the queue: one save is several events, and a checkout is thousands."""


class LinuxSource:
    """See `source.Source`."""

    settles = False

    def __init__(self, root: Path, interest: Interest, thread: OwnThread) -> None:
        self._folders = Folders(root, interest)
        self._thread = thread
        self._fd = -1

    @property
    def identity(self) -> Identity | None:
        """See `source.Source.identity`."""
        return self._folders.identity

    async def open(self) -> None:
        """See `source.Source.open`."""
        self._fd = await self._thread.run(self._folders.open)

    async def wait(self, seconds: float) -> Hints:
        """See `source.Source.wait`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while await self._readable(end - loop.time()):
            await asyncio.sleep(_GATHER)
            hints = await self._thread.run(self._folders.drain)
            if hints:
                return hints
        return Hints()

    async def look_again(self) -> Hints:
        """See `source.Source.look_again`."""
        return await self._thread.run(self._folders.walk_again)

    def stop(self) -> None:
        """See `source.Source.stop`."""
        self._folders.stop()

    async def close(self) -> None:
        """See `source.Source.close`."""
        await self._thread.run(self._folders.close)

    async def _readable(self, seconds: float) -> bool:
        """Whether events came in time."""
        if seconds <= 0:
            return False
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_reader(self._fd, came.set)
        try:
            await asyncio.wait_for(came.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._fd)
        return True
