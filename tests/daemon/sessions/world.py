"""Sessions over one real engine, each next to a naive model of it: a list of tokens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon.sessions.oracle import Oracle

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, SuffixStatus, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import ContextOverflow, InvalidInput, SessionClosed, SessionUnavailable

UNLIMITED = 1 << 40


@dataclass(frozen=True)
class Kind:
    """What the sessions stand on."""

    model: str
    words: tuple[str, ...] = ("AAAA", "BB", "the ", "é")
    """What texts are made of."""
    moment_s: float = 0.002
    """Some turns are cut short after such a time."""
    window: int = 64
    num_ubatch: int = 8
    most_bytes: int = 0
    """Of cells, in all arenas together; 0 is no limit."""
    memory_tier: int = 1 << 20
    may_be_full: bool = False
    """Whether cells may be held by branches that cannot give way."""
    deterministic: bool = False


@dataclass(eq=False)
class Modelled:
    """A session, and what it must be."""

    session: Session
    prefix: list[int] = field(default_factory=list[int])
    tail: list[int] = field(default_factory=list[int])
    in_doubt: bool = False
    """Its last turn was cut short: less of it may be said to be resident than is."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """What its turn must come to is known, and the turn itself has begun."""

    @property
    def tokens(self) -> list[int]:
        return [*self.prefix, *self.tail]


Turn = Callable[[Modelled], Coroutine[Any, Any, None]]


def _segments(texts: Sequence[str]) -> PrefixRequest:
    return PrefixRequest(tuple(Segment(f"s{i}", "file", text, f"s{i}") for i, text in enumerate(texts)))


class World:
    """All turns of all sessions go through here, and each is compared with what it should have done."""

    def __init__(self, kind: Kind, oracle: Oracle) -> None:
        self.kind = kind
        self._oracle = oracle
        self.steps = self.turns = 0
        self._begin()

    def _begin(self) -> None:
        async def same(model: str) -> str:
            return model or self.kind.model

        self.sessions: dict[str, Modelled] = {}
        self.registry = SessionRegistry(
            same,
            64,
            memory=KvMemory(self.kind.most_bytes, lambda: UNLIMITED),
            tiers=Tiers(memory=self.kind.memory_tier),
        )

    # Sessions come and go.

    async def open(self, name: str, root: str) -> None:
        """A session in some workspace."""
        context = ContextSettings(
            num_ctx=self.kind.window, num_ubatch=self.kind.num_ubatch, deterministic=self.kind.deterministic
        )
        config = SessionConfig(context=context, prompt_format="raw", disable_bos=True)
        session, attached = await self.registry.open(OpenRequest(Path(root), self.kind.model, name, config))
        assert not attached
        self.sessions[name] = Modelled(session)

    async def open_both(self, one: str, two: str) -> None:
        """A session in each of two workspaces, at once: where memory is short, one of them may have to ask again."""
        opened = await asyncio.gather(self.open(one, "/one"), self.open(two, "/two"), return_exceptions=True)
        for name, root, outcome in zip((one, two), ("/one", "/two"), opened, strict=True):
            assert outcome is None or isinstance(outcome, SessionUnavailable), outcome
            if outcome is not None:
                await self.open(name, root)

    async def fork(self, name: str, parent: str) -> None:
        """A session that is what another one is."""
        old = self.sessions[parent]
        session = await self.registry.fork(old.session.name, name)
        self.sessions[name] = Modelled(session, list(old.prefix), list(old.tail), old.in_doubt)
        assert session.tokens == old.tokens

    async def close(self, name: str) -> None:
        """Whatever it is busy with."""
        await self.registry.close(self.sessions.pop(name).session.name)

    async def close_within(self, name: str, turn: Turn, seconds: float) -> None:
        """Close a session while a turn runs on it."""
        task = await self._begun(self.sessions[name], turn)
        await asyncio.sleep(seconds)
        await self.close(name)
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert outcome is None or isinstance(outcome, SessionClosed), outcome

    async def give_way(self) -> None:
        """Have the workspace that was idle for longest give its cells back."""
        await self.registry.memory.give_way()

    # Turns.

    def prefix(self, texts: Sequence[str]) -> Turn:
        """Bring the prefix to these texts."""
        request = _segments(texts)

        async def turn(it: Modelled) -> None:
            target = await self._tokens(it, *texts)
            it.begun.set()
            if len(target) > self.kind.window:
                await self._overflows(it, it.session.ensure_prefix(request, Timings()))
                return
            status = await it.session.ensure_prefix(request, Timings())
            it.prefix, it.tail, it.in_doubt = target, [], False
            assert min(status.reused_tokens, status.restored_tokens, status.prefilled_tokens) >= 0
            told = status.reused_tokens + status.restored_tokens + status.prefilled_tokens
            assert told == status.prefix_tokens == status.resident_tokens == len(target)

        return turn

    def suffix(self, text: str, *, replace: bool = False) -> Turn:
        """Add a text."""
        request = SuffixRequest(text, replace=replace)

        async def turn(it: Modelled) -> None:
            base = it.prefix if replace else it.tokens
            added = await self._tokens(it, text)
            it.begun.set()
            if len(base) + len(added) > self.kind.window:
                await self._overflows(it, it.session.prefill_suffix(request, Timings()))
                return
            status = await it.session.prefill_suffix(request, Timings())
            it.tail, it.in_doubt = [*base[len(it.prefix) :], *added], False
            assert (status.suffix_tokens, status.resident_tokens) == (len(added), len(it.tokens))

        return turn

    def decode(self, most: int) -> Turn:
        """Answer."""
        request = DecodeRequest(Sampling(), most)

        async def turn(it: Modelled) -> None:
            parts = it.session.decode(request, Timings())
            if len(it.tokens) + most > self.kind.window or not it.tokens:
                it.begun.set()
                await self._overflows(it, anext(parts))
                return
            answer = await self._oracle.answer(it.session, it.tokens, most)
            it.begun.set()
            await self._follow(it, parts, it.prefix, [], it.tail + answer)

        return turn

    def complete(self, texts: Sequence[str], text: str, most: int) -> Turn:
        """Prefix, suffix and answer at once: all is planned before anything moves."""
        asked = _segments(texts), SuffixRequest(text), DecodeRequest(Sampling(), most)

        async def turn(it: Modelled) -> None:
            prefix, suffix = await self._tokens(it, *texts), await self._tokens(it, text)
            parts = it.session.complete(*asked, Timings())
            if len(prefix) + len(suffix) + most > self.kind.window or not prefix + suffix:
                it.begun.set()
                await self._overflows(it, anext(parts))
                return
            answer = await self._oracle.answer(it.session, prefix + suffix, most)
            it.begun.set()
            await self._follow(it, parts, prefix, suffix, suffix + answer)

        return turn

    async def _follow(
        self,
        it: Modelled,
        parts: AsyncGenerator[object, None],
        prefix: list[int],
        suffix: list[int],
        tail: list[int],
    ) -> None:
        """The session becomes, part by part, what it should be. Whatever cuts this short, it is so far on the way."""
        async with contextlib.aclosing(parts):
            async for part in parts:
                match part:
                    case PrefixStatus():
                        it.prefix, it.tail = prefix, []
                    case SuffixStatus():
                        it.tail = suffix
                    case Chunk(summary=None):
                        it.tail = [*it.tail, *part.token_ids]
                    case _:
                        assert it.tail == tail
                assert it.tail == tail[: len(it.tail)]
        assert it.tail == tail
        it.in_doubt = False

    async def _tokens(self, it: Modelled, *texts: str) -> list[int]:
        return [token for text in texts for token in await self._oracle.tokenize(it.session, text)]

    async def _overflows(self, it: Modelled, turn: Awaitable[Any]) -> None:
        try:
            await turn
        except (ContextOverflow, InvalidInput):
            assert it.session.tokens == it.tokens
        else:
            raise AssertionError("it cannot fit, or has nothing to go on from")

    # How they are taken.

    async def take(self, name: str, turn: Turn) -> None:
        """A turn by itself."""
        await self._try(self.sessions[name], turn, others=False)

    async def take_together(self, turns: dict[str, Turn]) -> None:
        """One turn on each of these sessions, all at once."""
        await asyncio.gather(*(self._try(self.sessions[n], turn, others=True) for n, turn in turns.items()))

    @staticmethod
    async def _begun(it: Modelled, turn: Turn) -> asyncio.Task[None]:
        """A turn that can be cut short from now on: never what it is compared with."""
        it.begun.clear()
        task = asyncio.create_task(turn(it))
        begun = asyncio.create_task(it.begun.wait())
        await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        return task

    async def _try(self, it: Modelled, turn: Turn, *, others: bool) -> None:
        self.turns += 1
        before = it.tokens
        try:
            await turn(it)
        except ContextOverflow:
            assert self.kind.may_be_full, "there was room"
            it.in_doubt = True
        except SessionUnavailable:
            # Where memory is short, one workspace may have no cells while turns run in the other.
            assert others and self.kind.most_bytes
            assert it.tokens == before
        assert it.session.tokens == it.tokens

    async def cancel(self, name: str, turn: Turn, seconds: float) -> None:
        """A turn that is cancelled after a moment: it has happened, or it has not, or a part of an answer has."""
        self.turns += 1
        it = self.sessions[name]
        task = await self._begun(it, turn)
        await asyncio.sleep(seconds)
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert outcome is None or isinstance(outcome, asyncio.CancelledError | ContextOverflow), outcome
        assert self.kind.may_be_full or not isinstance(outcome, ContextOverflow)
        it.in_doubt = it.in_doubt or outcome is not None
        assert it.session.tokens == it.tokens

    # What always holds.

    async def check(self) -> None:
        """Tree, cells and sessions agree."""
        self.steps += 1
        engines = {it.session.engine for it in self.sessions.values()} or set(self.registry.pool.loaded())
        for engine in engines:
            checked = await self._checked(engine)
            assert checked.residence.keys() == {it.session.id for it in self.sessions.values()}
            for it in self.sessions.values():
                self._check_told(it, *checked.residence[it.session.id])
            assert self.sessions or checked.memory_tier == 0
        memory = self.registry.memory
        assert memory.taken <= (memory.most or UNLIMITED)
        assert not any(record.turns for record in memory.records())
        assert self.sessions or not memory.records()

    async def _checked(self, engine: Engine) -> wire.Checked:
        """Where all is while nothing moves: an idle engine moves what it likes, and tells of it a moment later."""
        while True:
            before = self._told()
            checked = await engine.check()
            if before == self._told():
                return checked

    def _told(self) -> list[object]:
        return [it.session._now.residency for it in self.sessions.values()]

    def _check_told(self, it: Modelled, resident: int, in_memory: int) -> None:
        session = it.session
        report = self.registry.report(session.name)
        assert (session.state, session.tokens) == ("ready", it.tokens)
        told = report.resident_tokens, session._now.residency.in_memory
        assert told[0] <= resident, f"{session.name} has {resident} tokens in cells, not {told[0]}"
        assert it.in_doubt or told == (resident, in_memory)
        assert report.prefix_tokens + report.suffix_tokens == len(it.tokens)
        assert report.shared_tokens <= report.resident_tokens

    async def check_logits(self, name: str) -> None:
        """What the session would say next is what a fresh context says."""
        it = self.sessions[name]
        if it.tokens:
            expected = await self._oracle.logits(it.session, it.tokens)
            async with self.registry.memory.turn(it.session.engine, it.session.home.arena):
                warm = await it.session.engine.logits(it.session.id, it.tokens)
            assert warm == expected
            it.in_doubt = True  # it was moved behind its back

    async def clear(self) -> None:
        """Close all sessions: nothing may be left of them."""
        for name in list(self.sessions):
            await self.close(name)
        await self.check()

    async def renew(self) -> None:
        """Begin anew, whatever is left of a history that failed."""
        await self.stop()
        self._begin()

    async def stop(self) -> None:
        """End the engine."""
        await self.registry.stop()
