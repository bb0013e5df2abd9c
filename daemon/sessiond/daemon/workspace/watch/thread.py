"""One thread of its own for the disk work of one watcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PATIENCE: Final = 5.0
"""Seconds that ending waits for a call in progress. A disk that hangs for longer keeps the thread, not the daemon."""


class OwnThread:
    """Runs one call after the other.

    Not the loop's own threads: all workspaces share those, and a few disks that hang would take them all.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="watcher")

    async def run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Calls it there. If the caller is cancelled, the call still runs to its end."""
        return await asyncio.shield(asyncio.wrap_future(self._executor.submit(call, *args, **kwargs)))

    async def end(self) -> None:
        """Waits until all calls have ended, and ends the thread."""
        last = asyncio.ensure_future(self.run(_nothing))
        try:
            await asyncio.wait_for(asyncio.shield(last), _PATIENCE)
        except TimeoutError:
            pass
        finally:
            # Once the last call has ended, the thread has nothing left to do, and waiting for it takes microseconds.
            self._executor.shutdown(wait=last.done() and not last.cancelled())


def _nothing() -> None:
    pass
