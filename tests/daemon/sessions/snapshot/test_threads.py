"""Work that comes to its end, however often whoever waits is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from sessiond.daemon.sessions.snapshot.threads import in_thread, to_the_end


class _Work:
    """Comes to its end when it is let."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.order: list[str] = []

    def act(self) -> None:
        self.begun.set()
        self.may_end.wait()
        self.order.append("done")

    async def wait(self) -> None:
        await asyncio.to_thread(self.act)


@pytest.mark.parametrize(
    "begin", [lambda work: in_thread(work.act), lambda work: to_the_end(work.wait())], ids=["thread", "task"]
)
async def test_nothing_is_taken_away_from_what_still_works(begin: Callable[[_Work], Awaitable[None]]) -> None:
    work = _Work()

    async def use() -> None:
        try:
            await begin(work)
        finally:
            work.order.append("closed")

    task = asyncio.create_task(use())
    try:
        await asyncio.to_thread(work.begun.wait)
        for _ in range(3):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
        assert work.order == []
    finally:
        work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.order == ["done", "closed"]


async def test_what_it_returns_or_raises_comes_through() -> None:
    assert await in_thread(pow, 2, 5) == 32
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)
