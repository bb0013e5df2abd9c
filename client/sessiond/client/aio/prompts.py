"""Prompts as values, for the client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator
from types import TracebackType
from typing import Self, Unpack

from sessiond.client import requests
from sessiond.client.aio.link import Link
from sessiond.client.aio.session import AsyncSession
from sessiond.client.calls import sessions
from sessiond.client.prompts.answers import Answer, Scored
from sessiond.client.prompts.costs import Costs
from sessiond.client.prompts.graph import Graph
from sessiond.client.prompts.owner import Owner, forget, left_behind
from sessiond.client.prompts.prompt import Prompt
from sessiond.client.prompts.turn import Turn, planned
from sessiond.client.requests import DecodeSettings
from sessiond.v1 import config_pb2
from sessiond.v1.errors import SessiondError, SessionNotFound, invalid

CLOSE_S = 10.0
"""How long a daemon may take to close a session of ours."""


class AsyncPrompts:
    """Answers prompts, and scores texts after them, each shared beginning computed once.

    It does so on sessions of its own, `at_once` at most. Used with `async with` it keeps them until its end, and with them
    what was computed: then a run finds what the one before has left, and `explain` says what is where. Without, and after an
    error or a cancel, they are closed at the end of the call. One call at a time.
    """

    def __init__(
        self,
        link: Link,
        *,
        workspace_root: requests.PathLike | None = None,
        model: str = "",
        config: config_pb2.Config | None = None,
        at_once: int = 4,
    ) -> None:
        if at_once < 1:
            raise invalid("at_once", f"{at_once} is not 1 or more")
        self._link = link
        self._open_call = (workspace_root, model, config)
        self._raw = config is not None and config.prompt_format == "raw"
        self._at_once = at_once
        self._keeps = False
        self._owner = Owner()
        self._crew: dict[str, AsyncSession | None] = {}
        """Its sessions by their keys; None while one is being opened."""
        self._stands: dict[str, Turn] = {}
        """By session, what it stands on."""
        self._costs = Costs()

    async def __aenter__(self) -> Self:
        self._keeps = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeps = False
        await self.close()

    async def close(self) -> None:
        """Close its sessions, also if the caller is cancelled meanwhile."""
        self._stands.clear()
        left, self._crew = self._crew, {}
        owner, self._owner = self._owner, Owner()
        await asyncio.shield(self._end_all(left, owner))

    async def _end_all(self, left: dict[str, AsyncSession | None], owner: Owner) -> None:
        closed = await asyncio.gather(*(self._end_one(*one) for one in left.items()))
        owner.left_some = not all(closed)
        owner.leave()

    async def _end_one(self, key: str, session: AsyncSession | None) -> bool:
        """Whether nothing of it is left for certain."""
        try:
            found = [session] if session is not None else await self._called(key)
            for one in found:
                await one.close(timeout=CLOSE_S)
        except SessionNotFound:
            return True
        except (SessiondError, TimeoutError):
            return False
        return bool(found)  # else the daemon may be about to open it

    async def _called(self, key: str) -> list[AsyncSession]:
        """What was opened with this key: whoever opened it was cancelled before its name was known."""
        known = await self._link.unary(sessions.list_sessions(), CLOSE_S)
        return [AsyncSession(self._link, one.name, one) for one in known if one.key == key]

    async def _close_left_behind(self, timeout: float | None) -> None:
        """Close what clients have left open that died: else they would fill the daemon in the end."""
        known = await self._link.unary(sessions.list_sessions(), timeout)
        for owner, names in left_behind(known).items():
            with contextlib.suppress(SessiondError, TimeoutError):
                for name in names:
                    await self._link.unary(sessions.close_session(name), CLOSE_S)
                forget(owner)

    async def run(
        self,
        prompts: Iterable[Prompt | str],
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> list[Answer]:
        """The answers to all prompts, in the order given; see `each`."""
        found = [answer async for answer in self.each(prompts, config, timeout=timeout, **settings)]
        return sorted(found, key=lambda answer: answer.index)

    def each(
        self,
        prompts: Iterable[Prompt | str],
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> AsyncGenerator[Answer, None]:
        """Each answer as it ends. Prompts are computed one after the other, in the order that needs the fewest tokens, and
        answered side by side. `timeout` (seconds) is that of each turn. The first error ends the others.
        """
        turns = planned(prompts, raw=self._raw)
        return self._each(turns, requests.decode_config(config, settings), timeout)

    async def _each(
        self, turns: list[Turn], chosen: config_pb2.DecodeConfig, timeout: float | None
    ) -> AsyncGenerator[Answer, None]:
        self._costs.begin(turns)
        results: asyncio.Queue[Answer | BaseException] = asyncio.Queue()
        workers: list[asyncio.Task[None]] = []
        ended_well = False
        try:
            ready = await self._ready(len(turns), timeout)
            gates = [asyncio.Event() for _ in range(len(turns) + 1)]
            gates[0].set()
            left = iter(list(zip(turns, gates, gates[1:], strict=False)))
            work = [self._work(session, left, chosen, timeout, results) for session in ready]
            workers += map(asyncio.create_task, work)
            for _ in turns:
                result = await results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
            ended_well = True
        finally:
            await self._end(workers, ended_well=ended_well)

    async def _end(self, workers: list[asyncio.Task[None]], *, ended_well: bool) -> None:
        for worker in workers:
            worker.cancel()
        ending = asyncio.gather(*workers, return_exceptions=True)
        try:
            await asyncio.shield(ending)
        finally:
            if not (self._keeps and ended_well):
                await self.close()

    async def _work(
        self,
        session: AsyncSession,
        left: Iterator[tuple[Turn, asyncio.Event, asyncio.Event]],
        chosen: config_pb2.DecodeConfig,
        timeout: float | None,
        results: asyncio.Queue[Answer | BaseException],
    ) -> None:
        """One turn after the other, each when the one before it has been computed: it may share anything with that one."""
        for turn, before, computed in left:
            try:
                await before.wait()
                await self._answer(session, turn, computed, chosen, timeout)
                results.put_nowait(turn.answer())
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                results.put_nowait(error)
            finally:
                computed.set()

    async def _answer(
        self,
        session: AsyncSession,
        turn: Turn,
        computed: asyncio.Event,
        chosen: config_pb2.DecodeConfig,
        timeout: float | None,
    ) -> None:
        call = sessions.complete(session.name, turn.prefix, turn.suffix, chosen, {})
        self._stands.pop(session.name, None)
        async with self._link.stream(call, timeout) as parts:
            async for part in parts:
                if turn.heard(part):
                    computed.set()
        self._stands[session.name] = turn
        answer = turn.answer()
        report = await session.explain(timeout=timeout)
        self._costs.heard(turn, answer.prefix, answer.suffix, report, answer.summary.timings.prefill_ms)

    async def _ready(self, most: int, timeout: float | None) -> list[AsyncSession]:
        """As many sessions as can be of use."""
        root, model, config = self._open_call
        if len(self._crew) < min(most, self._at_once):
            await self._close_left_behind(timeout)
        while len(self._crew) < min(most, self._at_once):
            key = self._owner.key()
            call = sessions.open_session(root, model, key, config)
            self._crew[key] = None
            opened = (await self._link.unary(call, timeout)).session
            self._crew[key] = AsyncSession(self._link, opened.name, opened)
        return self._known()[:most]

    def _known(self) -> list[AsyncSession]:
        return [session for session in self._crew.values() if session is not None]

    async def scores(
        self, prompt: Prompt | str, continuations: Iterable[str], *, timeout: float | None = None
    ) -> list[Scored]:
        """How likely each of these texts is after the prompt, which is computed once: classification without sampling."""
        turn = Turn(Prompt(prompt) if isinstance(prompt, str) else prompt)
        texts = continuations if isinstance(continuations, str) else list(continuations)
        ended_well = False
        self._costs.begin([turn])
        try:
            [session] = await self._ready(1, timeout)
            self._stands.pop(session.name, None)
            first = await self._link.unary(sessions.ensure_prefix(session.name, turn.prefix), timeout)
            then = await self._link.unary(sessions.prefill_suffix(session.name, turn.suffix), timeout)
            told = await session.score(texts, timeout=timeout)
            report = await session.explain(timeout=timeout)
            self._stands[session.name] = turn
            spent_ms = first.timings.prefill_ms + then.timings.prefill_ms
            self._costs.heard(turn, first.status, then.status, report, spent_ms)
            ended_well = True
        finally:
            await self._end([], ended_well=ended_well)
        return [Scored.of(text, one) for text, one in zip(texts, told.scores, strict=True)]

    async def explain(
        self, prompts: Iterable[Prompt | str] | None = None, *, timeout: float | None = None
    ) -> Graph:
        """The pieces of these prompts, or of those of the last run: what each cost then, and where its KV is. Computes
        nothing.
        """
        wanted = self._costs.prompts if prompts is None else list(prompts)
        held = [
            (self._stands[session.name], await session.explain(timeout=timeout))
            for session in self._known()
            if session.name in self._stands
        ]
        return Graph.of((Prompt(one) if isinstance(one, str) else one for one in wanted), self._costs, held)
