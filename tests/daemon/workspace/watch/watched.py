"""Somebody who hears of the bursts of a watcher over a real folder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sessiond.daemon.workspace.watch.watcher import Burst, Watcher

PATIENCE_S = 60
"""What is not told within this is taken for never told."""


class Ear:
    """Hears bursts in their order."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._bursts = watcher.bursts()

    async def next(self) -> Burst:
        """The next burst."""
        return await asyncio.wait_for(anext(self._bursts), PATIENCE_S)

    async def until(self, *paths: str) -> list[Burst]:
        """The next bursts, up to the one with which all of `paths` have been told."""
        heard: list[Burst] = []
        missing = set(paths)
        while missing:
            heard.append(await self.next())
            missing -= heard[-1].paths
            assert not heard[-1].rescan, f"a rescan instead of {missing}"
        return heard

    async def until_rescan(self) -> list[Burst]:
        """The next bursts, up to a rescan."""
        heard = [await self.next()]
        while not heard[-1].rescan:
            heard.append(await self.next())
        return heard

    async def told_by(self, root: Path, act: Callable[[], object]) -> set[str]:
        """All that is told of `act`: of what is told before a marker that is written after it."""
        act()
        marker = f"marker-{os.urandom(4).hex()}"
        (root / marker).write_text("")
        return told(await self.until(marker)) - {marker}

    async def close(self) -> None:
        """Hears no more."""
        await self._bursts.aclose()


def told(bursts: list[Burst]) -> set[str]:
    """The paths of all of them."""
    return {path for burst in bursts for path in burst.paths}


@asynccontextmanager
async def listening(watcher: Watcher) -> AsyncGenerator[Ear, None]:
    """After the first burst, which says that watching has begun."""
    ear = Ear(watcher)
    try:
        first = await ear.next()
        assert first.rescan
        yield ear
    finally:
        await ear.close()


def watcher_threads() -> list[str]:
    """The names of threads that watchers run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("watcher")]


def inotify_queues() -> int:
    """How many queues of events this process has open."""
    return sum("inotify" in _target(descriptor) for descriptor in Path("/proc/self/fd").iterdir())


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""
