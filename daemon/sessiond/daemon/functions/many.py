"""A map: calls of one function side by side, each answered as it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from sessiond.daemon.engine.process import EngineDied
from sessiond.daemon.engine.seat import AGAIN
from sessiond.daemon.engine.wire import Scores
from sessiond.daemon.functions.body import Body
from sessiond.daemon.functions.call import call
from sessiond.daemon.sessions.statuses import Summary, Timings
from sessiond.v1.errors import ContextOverflow


@dataclass(frozen=True, slots=True)
class Mapped:
    """One argument's answer."""

    index: int
    value: str
    tokens: tuple[int, ...]
    scores: tuple[Scores, ...]
    summary: Summary
    timings: Timings


async def many(
    name: str, body: Body, arguments: Sequence[Sequence[int]], lanes: asyncio.Semaphore, timings: Timings
) -> AsyncGenerator[Mapped, None]:
    """The answers to arguments that fit, in the order in which they end. The `lanes` are those of all maps in the arena, so
    that each has its turn. Answers that nobody takes hold back those that follow. Raises as `call`: what ends one ends all.
    """
    width = min(len(arguments), body.at_once(max(map(len, arguments), default=0)))
    ended: asyncio.Queue[Mapped | Exception] = asyncio.Queue(max(1, width))
    left = deque(enumerate(arguments))
    at_work = width

    async def work() -> None:
        nonlocal at_work
        try:
            while left:
                index, argument = left.popleft()
                try:
                    async with lanes:
                        mapped = await _one(name, body, index, argument, timings)
                except ContextOverflow:
                    # It fits into the window: the cells, or the sequences, are taken by the others. One fewer goes on.
                    if at_work == 1:
                        raise
                    left.appendleft((index, argument))
                    return
                await ended.put(mapped)
        except Exception as error:  # noqa: BLE001 - whatever one of them fails of is told to whoever asked
            await ended.put(error)
        finally:
            at_work -= 1

    workers = [asyncio.create_task(work()) for _ in range(width)]
    try:
        for _ in arguments:
            mapped = await ended.get()
            if isinstance(mapped, Exception):
                raise mapped
            yield mapped
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _one(name: str, body: Body, index: int, argument: Sequence[int], whole: Timings) -> Mapped:
    """Nobody has seen a part of it: where an engine dies it can begin anew, but not for ever."""
    for _ in range(AGAIN):
        with contextlib.suppress(EngineDied):
            return await _tried(name, body, index, argument, whole)
    return await _tried(name, body, index, argument, whole)


async def _tried(name: str, body: Body, index: int, argument: Sequence[int], whole: Timings) -> Mapped:
    spent = Timings(arrived=whole.arrived, deadline=whole.deadline)
    await body.rise(spent.patience)
    texts, tokens, scores = list[str](), list[int](), list[Scores]()
    async with contextlib.aclosing(call(name, body, argument, spent)) as chunks:
        async for chunk in chunks:
            texts.append(chunk.text)
            tokens += chunk.token_ids
            scores += chunk.scores
            if chunk.summary is not None:
                return Mapped(
                    index, "".join(texts), tuple(tokens), tuple(scores), chunk.summary, spent.close()
                )
    raise AssertionError("an answer ends with its summary or an exception")
