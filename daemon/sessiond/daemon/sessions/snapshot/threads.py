"""Work that comes to its end, also if whoever asked is cancelled: he must not leave behind what only the work knows of, nor
take away what it still uses.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What it returns or raises, done in a thread. A cancel comes through when it is over."""
    bound = functools.partial(contextvars.copy_context().run, act, *args, **kwargs)
    # No task: one would be cancelled with all others at the end of the daemon, and its thread would go on.
    return await _over(asyncio.get_running_loop().run_in_executor(None, bound))


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What it returns or raises. A cancel comes through when it is over."""
    return await _over(asyncio.create_task(work))


async def _over(work: asyncio.Future[T]) -> T:
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:  # the second one too, and every other
            cancelled = error
    if cancelled is None:
        return work.result()
    if not work.cancelled():
        work.exception()  # heard: nobody is left to be told
    raise cancelled
