"""Work that comes to its end, also if whoever asked is cancelled: he must not leave behind what only the work knows of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What it returns or raises, done in a thread. A cancel comes through when it is over."""
    return await to_the_end(asyncio.to_thread(act, *args, **kwargs))


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What it returns or raises. A cancel comes through when it is over."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # heard: nobody is left to be told
        raise
