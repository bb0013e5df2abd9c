"""One session: a prefix, what was added after it, and the branch of the engine that holds their KV.

What the session *is* (its tokens) and what is *resident* (the branch's) are two things. Every job carries all of
the tokens, so that whatever a cancel, an eviction or an error left behind is put right by the next job, exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sessiond.adapters.base import Sampling
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Generation
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.sessions.branch import Branch
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.content import Content
from sessiond.daemon.sessions.events import (
    Broadcast,
    Faulted,
    PrefillProgressed,
    StateChanged,
    engine_died,
)
from sessiond.daemon.sessions.failures import in_words
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.manifest import Identity
from sessiond.daemon.sessions.named import named, words_of
from sessiond.daemon.sessions.plans import Addition, Plans
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.sessions.residency import Residency
from sessiond.daemon.sessions.sources import PrefixRequest, Sources
from sessiond.daemon.sessions.spares import Spares
from sessiond.daemon.sessions.standing import Standing
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, Report, SuffixStatus, Summary, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.sessions.turn import Turns
from sessiond.daemon.sessions.way import AnyLeg, Leg, Way
from sessiond.daemon.sessions.workspaces import HotKey, Workspace
from sessiond.v1.errors import ContextOverflow, SessionClosed, SessionFatal

T = TypeVar("T", PrefixStatus, SuffixStatus)

MAX_SEED = (1 << 32) - 2
"""The backend keeps the last 32-bit number for "random"."""


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """How an answer is made. `max_tokens` 0 is as many as fit."""

    sampling: Sampling
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    guesses: bool = True
    """Whether tokens may be guessed ahead."""


class Session:
    """See the module. All calls come from the daemon's event loop."""

    def __init__(
        self,
        session_id: str,
        home: Home,
        identity: Identity,
        config: SessionConfig,
        workspace: Workspace | None,
        key: str,
    ) -> None:
        self.id = session_id
        self.name = f"sessions/{session_id}"
        self.home = home
        self.identity = identity
        self.config = config
        self.workspace = workspace
        self.key = key
        self.created_ms = time.time() * 1e3
        self.last_used_ms = 0.0
        self.events = Broadcast()
        self._turns = Turns(self.name, lambda: self.events.tell(StateChanged(self.state)))
        self._num_ctx = config.context.num_ctx
        sources = Sources(home.seat, identity, config, workspace)
        self._plans = Plans(home.seat, sources, identity, config)
        self._now = Standing(self.name, identity, config.prompt_format, self._num_ctx, self.events.tell)
        self.on_prefix: Callable[[PrefixRequest], None] = lambda _request: None
        """Hears what its prefix was made from, whenever it was brought to one."""
        self._closed = False
        self._fatal = ""
        self._freeing: asyncio.Task[None] | None = None
        self.branch = Branch(home, session_id, self._moved, self._turns.check_open, is_open=True)
        self.spares = Spares(session_id, self._moved, self._turns.check_open)
        if workspace is not None:
            workspace.join(session_id, sources, self.events.tell)

    # What it is.

    @property
    def engine(self) -> Engine:
        """The one that stands, or the one that stood last."""
        return self.home.engine

    @property
    def workspace_root(self) -> Path | None:
        """The folder that it is about, if it is about one."""
        return self.workspace.root if self.workspace is not None else None

    @property
    def state(self) -> str:
        """ "ready", "busy", "closed" or "fatal"."""
        if self._closed:
            return "closed"
        if self._fatal:
            return "fatal"
        return "busy" if self._turns.running else "ready"

    @property
    def prefix_tokens(self) -> int:
        """Tokens of the prefix."""
        return len(self._now.content.prefix.tokens)

    @property
    def resident_tokens(self) -> int:
        """Tokens of the session whose KV is in the backend's cells."""
        return self._now.residency.resident

    @property
    def tokens(self) -> list[int]:
        """All of its tokens."""
        return self._now.tokens

    def report(self, shared: int = 0) -> Report:
        """All there is to say, given how many tokens are shared with others. Never waits."""
        content, residency = self._now.content, self._now.residency
        prefix = content.prefix
        segments = prefix.manifest.segments
        return Report(
            resident_tokens=residency.resident,
            prefix_tokens=len(prefix.tokens),
            suffix_tokens=len(content.tail),
            num_ctx=self._num_ctx,
            available_tokens=self._num_ctx - content.size,
            stable_token_hash=prefix.stable_token_hash,
            manifest=prefix.manifest,
            resident_by_segment=residency.resident_by_segment(segments),
            memory_by_segment=residency.memory_by_segment(segments),
            kv_bytes=residency.resident * self.home.cell_bytes,
            shared_tokens=shared,
            left_out=prefix.left_out,
            last_miss=self._now.miss,
            busy=self._turns.busy(),
            closed=self._closed,
            fatal_cause=self._fatal,
            edit_cost=self.workspace.edit_cost(segments) if self.workspace is not None else None,
        )

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncGenerator[Content, None]:
        """What it is, while no turn can change it. Raises SessionBusy, and what ended the session."""
        async with self._turns.turn("fork"):
            yield self._now.content

    @contextlib.asynccontextmanager
    async def restoring(self) -> AsyncGenerator[Callable[[int, int], None], None]:
        """A turn in which it may become something else by `take_over`; what it answers hears tokens done and to do."""
        async with self._turn("restore"):
            yield lambda done, total: self._turns.note("restore", done, total)

    @contextlib.asynccontextmanager
    async def scoring(self) -> AsyncGenerator[tuple[list[int], Callable[[int, int], None]], None]:
        """A turn that leaves it as it is: all of its tokens, and what hears tokens done and to do."""
        async with self._turn("score"):
            yield self.tokens, lambda done, total: self._turns.note("score", done, total)

    def take_over(self, branch: Branch, home: Home, content: Content, request: PrefixRequest) -> Branch:
        """Be this content, whose prefix is made from the request, and whose KV stands in the branch. The branch that was its
        own, to be closed. Within `restoring`.
        """
        old, self.branch, self.home = self.branch, branch, home
        self._now.become(content, Residency.of(content.size))
        self._stands_by(request)
        return old

    def begin_as(self, content: Content, parent: Session) -> None:
        """Be what another session is, whose branch this one was opened at."""
        self._now.become(content, parent._now.residency)

    async def begin_from(self, request: PrefixRequest) -> None:
        """Be what was asked of the session that had this name in an earlier life of the daemon: its prefix, of which nothing
        is in the cells yet. Raises as `ensure_prefix`.
        """
        self._now.become_prefix(await self._plans.prefix(request, Timings()))
        self._stands_by(request)

    # How it ends.

    async def close(self) -> None:
        """End it, cancelling a running turn, and free what it holds, also if the caller is cancelled. Raises SessionClosed
        the second time.
        """
        if self._closed:
            raise SessionClosed(self.name)
        self._closed = True
        self._turns.end(SessionClosed(self.name))
        self.branch.interrupt()
        self.spares.interrupt()
        self._let_go()
        self._freeing = asyncio.create_task(self._free())
        await asyncio.shield(self._freeing)

    def _let_go(self) -> None:
        """Its name is remembered for a while; what it was made of would fill the memory."""
        self._now.forget()
        self._plans.forget()
        if self.workspace is not None:
            self.workspace.leave(self.id)
        self.events.tell(StateChanged(self.state))
        self.events.end()

    async def _free(self) -> None:
        if self.workspace is not None:
            await self.workspace.settled()
        await self.branch.close()

    def engine_died(self, cause: str) -> None:
        """Its KV is gone, and what it is stands: the next job is sent to another engine."""
        if not self._closed and not self._fatal:
            self._now.residency = Residency()
            self._turns.note(self._turns.stage, 0, 0)  # what was done of it is to be done again
            self.events.tell(engine_died(cause))

    def lose(self, cause: str) -> None:
        """No engine will do for it any more."""
        if self._closed or self._fatal:
            return
        self._fatal = cause
        fatal = SessionFatal(cause)
        self._turns.end(fatal)
        self.spares.interrupt()
        self.events.tell(Faulted(fatal.reason, fatal.message))
        self._let_go()

    def check_alive(self) -> None:
        """Raises what ended the session, if something did."""
        self._turns.check_open()

    # Turns.

    async def ensure_prefix(self, request: PrefixRequest, timings: Timings) -> PrefixStatus:
        """Bring the prefix to the asked one; whatever stood after the old one leaves the session."""
        async with self._turn("prefix"):
            new = await self._plans.prefix(request, timings)
            return await self._go(self._to_prefix(request, new), timings)

    async def prefill_suffix(self, request: SuffixRequest, timings: Timings) -> SuffixStatus:
        """Add a suffix after all that the session is, or after its prefix."""
        async with self._turn("suffix"):
            now = self._now.content
            addition = await self._plans.suffix(request, now.prefix, now, timings)
            return await self._go(self._to_suffix(addition, words_of(request)), timings)

    async def decode(self, request: DecodeRequest, timings: Timings) -> AsyncGenerator[Chunk, None]:
        """A turn of its own: see `_answer`."""
        async with self._turn("decode"):
            parts = self._answer(self._now.content, self._now.asked, request, timings)
            async with contextlib.aclosing(parts) as chunks:
                async for chunk in chunks:
                    assert isinstance(chunk, Chunk), "it has no legs"
                    yield chunk

    async def complete(
        self,
        prefix: PrefixRequest | None,
        suffix: SuffixRequest,
        request: DecodeRequest,
        timings: Timings,
    ) -> AsyncGenerator[PrefixStatus | SuffixStatus | Chunk, None]:
        """Prefix, suffix and answer as one turn: no other can come between."""
        async with self._turn("prefix"):
            # All is planned before anything moves: an overflow of a later part must leave the context as it was.
            now = self._now.content
            new = now.prefix if prefix is None else await self._plans.prefix(prefix, timings)
            standing = now if prefix is None else None
            addition = await self._plans.suffix(suffix, new, standing, timings, request.max_tokens)
            first = () if prefix is None else (self._to_prefix(prefix, new),)
            words = words_of(suffix)
            last = self._to_suffix(addition, words)
            after = Content(new).with_tokens(last.tokens, addition.suffix.roles)
            parts = self._answer(after, words, request, timings, *first, last)
            async with contextlib.aclosing(parts) as told:
                async for part in told:
                    yield part

    @contextlib.asynccontextmanager
    async def _turn(self, stage: str) -> AsyncGenerator[None, None]:
        async with self._turns.turn(stage):
            self.last_used_ms = time.time() * 1e3
            try:
                async with self.branch.turn():
                    yield
            except EngineDied as died:
                raise self._cut_short(died) from died
            except SessionFatal as fatal:
                self.lose(fatal.cause)
                raise
            except EngineFailed as failed:
                raise in_words(failed, self.name, self.engine.facts.backend, self._overflow) from failed
            finally:
                self._now.end_turn()

    def _cut_short(self, died: EngineDied) -> Exception:
        """The engine died in mid-answer, or over and over: the session goes on from its prefix."""
        self._turns.check_open()
        self._now.fall_back()
        fatal = SessionFatal(died.cause)
        self.events.tell(Faulted(fatal.reason, fatal.message))
        return fatal

    def _overflow(self) -> ContextOverflow:
        """The backend had no room for what the turn is at."""
        busy = self._turns.busy()
        standing = 0 if self._turns.stage == "prefix" else len(self.tokens)
        asked = busy.total_tokens if busy is not None else 0
        more = asked if self._turns.stage != "suffix" else asked - standing
        return ContextOverflow(self._turns.stage, standing, max(1, more), self._num_ctx)

    # Parts of turns.

    def _to_prefix(self, request: PrefixRequest, new: Prefix) -> Leg[PrefixStatus]:
        """To this prefix, which was asked for so; whatever stood after the old one leaves the session."""
        borders = tuple(segment.token_end for segment in new.manifest.segments)

        def arrive(took: wire.Advanced) -> PrefixStatus:
            status = self._now.reach_prefix(new, took)
            self._stands_by(request)
            return status

        return Leg("prefix", new.tokens, arrive, borders)

    def _stands_by(self, request: PrefixRequest) -> None:
        """Have the prefix that it was just brought to remembered, and kept up to date if it is the workspace's."""
        self.on_prefix(request)
        if self.workspace is None:
            return
        if request.workspace and request.keep_hot:
            add_bos = self.identity.add_bos
            key = HotKey(
                self.home.seat, self.home.arena, self.config.prompt_format, add_bos, request.max_tokens
            )
            self.workspace.follow(self.id, self.home, key, self._now.content.prefix)
        else:
            self.workspace.unfollow(self.id)

    def _to_suffix(self, addition: Addition, words: frozenset[str]) -> Leg[SuffixStatus]:
        """To a suffix after its base, which asks by these words."""
        target = addition.base + addition.suffix.tokens

        def arrive(took: wire.Advanced) -> SuffixStatus:
            return self._now.reach_suffix(addition.suffix, target, words, took)

        return Leg("suffix", target, arrive)

    async def _go(self, leg: Leg[T], timings: Timings) -> T:
        """Go a leg by itself."""
        self._turns.check_open()
        self._turns.note(leg.stage, 0, len(leg.tokens))
        self._now.begin_job()
        took = await self.branch.advance(
            leg.tokens,
            lambda done, total: self._got_on(leg.stage, done, total),
            self._held,
            leg.borders,
            timings.patience,
        )
        timings.add(took)
        return leg.arrive(took)

    def _got_on(self, stage: str, done: int, total: int) -> None:
        self._turns.note(stage, done, total)
        self.events.tell(PrefillProgressed(stage, done, total))

    async def _answer(
        self,
        before: Content,
        words: frozenset[str],
        request: DecodeRequest,
        timings: Timings,
        *legs: AnyLeg,
    ) -> AsyncGenerator[PrefixStatus | SuffixStatus | Chunk, None]:
        """Go all legs, which end at `before`, and generate after it, as one job: nobody has to be woken up between them. What was
        generated becomes part of the session. `words` are those of the question.
        """
        self._turns.check_open()
        self._plans.check_room(before.size, request.max_tokens)
        most = request.max_tokens or self._num_ctx - before.size
        sampling = self._resolved(request.sampling)
        way = Way(legs, most, lambda stage, total: self._turns.note(stage, 0, total))
        wish = Generation(
            *(sampling, most, request.stop),
            guesses=request.guesses,
            named=named(before.prefix.manifest.segments, words) if request.guesses else (),
            legs=way.ends,
            borders=way.borders,
        )
        sent: list[int] = []
        self._now.begin_job()
        jobs = self.branch.generate(
            before.tokens,
            wish,
            lambda done, total: self._got_on(way.stage, done, total),
            self._held,
            timings.patience,
        )
        try:
            async with contextlib.aclosing(jobs) as pieces:
                async for piece in pieces:
                    self._turns.check_open()
                    match piece:
                        case wire.Reached():
                            timings.add(piece.took)
                            yield way.arrive(piece.took)
                        case wire.Piece():
                            if not sent:
                                timings.first_token_ms = timings.since_arrival()
                            sent += piece.tokens
                            # What the client was sent is part of the session, also where a cancel comes before its KV.
                            self._now.content = before.answered(sent)
                            self._turns.note("decode", len(sent), most)
                            yield Chunk(piece.text, tuple(piece.tokens), scores=tuple(piece.scores))
                        case wire.Generated():
                            self._now.residency = Residency.of(before.size + len(sent))
                            timings.decode_ms += piece.decode_ms
                            yield Chunk("", (), Summary.of(piece, sampling.seed))
        finally:
            self._now.end_answer(engine_died=self.engine.process.ended is not None)

    def _moved(self, resident: int, in_memory: int) -> None:
        """KV of this session's branch moved without a job of its own."""
        if self._closed or self._fatal:
            return
        if not self._turns.changing:
            self._now.move(resident, in_memory)
        elif self._turns.stage != "restore":  # else it is of a branch that is not the session's own yet
            self._now.move_late(resident, in_memory)

    def _held(self, held: Sequence[int]) -> None:
        """A job ended early: the branch holds these tokens, which may be fewer than the session's."""
        if not self._closed and not self._fatal:  # else what the branch held is gone with it
            self._now.hold(held)

    def _resolved(self, sampling: Sampling) -> Sampling:
        window = self._num_ctx if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        return replace(sampling, repeat_last_n=window)
