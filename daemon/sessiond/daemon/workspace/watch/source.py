"""What tells of changes, on each system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from sessiond.daemon.workspace.watch.hints import Hints
from sessiond.daemon.workspace.watch.interest import Interest
from sessiond.daemon.workspace.watch.root import Identity
from sessiond.daemon.workspace.watch.thread import OwnThread


class Source(Protocol):
    """Watches one root. Its methods are called one after the other, except `stop`."""

    settles: bool
    """Whether what it says has been quiet for a while already."""

    @property
    def identity(self) -> Identity | None:
        """Of the folder that is watched."""
        ...

    async def open(self) -> None:
        """Begins to watch: from its return on every change is told. Raises OSError where it cannot."""
        ...

    async def wait(self, seconds: float) -> Hints:
        """The next changes; empty if there was none for so long. Raises OSError if it cannot go on."""
        ...

    async def look_again(self) -> Hints:
        """Adapts to what is of interest now. Tells what came in by that. Raises OSError."""
        ...

    def stop(self) -> None:
        """Whatever is in progress ends soon: all that follows is `close`."""
        ...

    async def close(self) -> None:
        """Ends it, whatever state it is in."""
        ...


def source_for(root: Path, interest: Interest, thread: OwnThread) -> Source:
    """The best that this system has."""
    if sys.platform == "linux":
        from sessiond.daemon.workspace.watch.linux import LinuxSource

        return LinuxSource(root, interest, thread)
    else:
        from sessiond.daemon.workspace.watch.portable import PortableSource

        return PortableSource(root, interest, thread)
