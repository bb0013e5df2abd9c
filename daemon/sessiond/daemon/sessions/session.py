"""One session: a prefix, what was added after it, and the branch of the engine that holds their KV.

What the session *is* (its tokens) and what is *resident* (the branch's) are two things. Every job carries all of
the tokens, so that whatever a cancel, an eviction or an error left behind is put right by the next job, exactly.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from sessiond.adapters.base import Sampling
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Generation
from sessiond.daemon.engine.frames import RAW
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.events import Broadcast, Faulted, Invalidated, PrefillProgressed, StateChanged
from sessiond.daemon.sessions.manifest import Identity, check
from sessiond.daemon.sessions.miss import Miss, explain_miss
from sessiond.daemon.sessions.prefix import Prefix, empty_prefix
from sessiond.daemon.sessions.sources import PrefixRequest, Sources
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, Report, SuffixStatus, Summary, Timings
from sessiond.daemon.sessions.suffix import Suffix, SuffixRequest, build_suffix
from sessiond.daemon.sessions.turn import Turns
from sessiond.v1.errors import (
    ContextOverflow,
    SessionClosed,
    SessionFatal,
    SessionUnavailable,
    UnsupportedFeature,
    invalid,
)


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """How an answer is made. `max_tokens` 0 is as many as fit."""

    sampling: Sampling
    max_tokens: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Addition:
    """A suffix that was planned, and the tokens after which it comes."""

    base: list[int]
    suffix: Suffix


class Session:
    """See the module. All calls come from the daemon's event loop."""

    def __init__(
        self,
        session_id: str,
        engine: Engine,
        identity: Identity,
        config: SessionConfig,
        opened: wire.Opened,
        workspace_root: Path | None,
        key: str,
    ) -> None:
        self.id = session_id
        self.name = f"sessions/{session_id}"
        self.engine = engine
        self.identity = identity
        self.config = config
        self.workspace_root = workspace_root
        self.key = key
        self.created_ms = time.time() * 1e3
        self.last_used_ms = 0.0
        self.events = Broadcast()
        self._turns = Turns(self.name, lambda: self.events.tell(StateChanged(self.state)))
        self._num_ctx = config.context.num_ctx
        self._cell_bytes = opened.cell_bytes
        self._sources = Sources(engine, identity, config, workspace_root)
        self._prefix = empty_prefix(identity)
        self._tail: list[int] = []
        """Suffixes and generated text."""
        self._roles: tuple[str, ...] = ()
        self._resident = 0
        """How many of the session's tokens, from the first, the branch holds."""
        self._miss: Miss | None = None
        self._closed = False
        self._fatal = ""

    # What it is.

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
        return len(self._prefix.tokens)

    @property
    def resident_tokens(self) -> int:
        """Tokens of the session whose KV stands."""
        return self._resident

    @property
    def tokens(self) -> list[int]:
        """All of its tokens."""
        return self._prefix.tokens + self._tail

    def report(self) -> Report:
        """All there is to say. Never waits."""
        prefix = self._prefix
        total = len(prefix.tokens) + len(self._tail)
        return Report(
            resident_tokens=self._resident,
            prefix_tokens=len(prefix.tokens),
            suffix_tokens=len(self._tail),
            num_ctx=self._num_ctx,
            available_tokens=self._num_ctx - total,
            stable_token_hash=prefix.stable_token_hash,
            manifest=prefix.manifest,
            resident_by_segment=tuple(
                max(0, min(self._resident, segment.token_end) - segment.token_start)
                for segment in prefix.manifest.segments
            ),
            kv_bytes=self._resident * self._cell_bytes,
            left_out=prefix.left_out,
            last_miss=self._miss,
            busy=self._turns.busy(),
            closed=self._closed,
            fatal_cause=self._fatal,
        )

    # How it ends.

    async def close(self) -> None:
        """End it, cancelling a running turn, and free what it holds. Raises SessionClosed the second time."""
        if self._closed:
            raise SessionClosed(self.name)
        self._closed = True
        self._turns.end(SessionClosed(self.name))
        self.engine.interrupt(self.id)
        self._resident = 0
        self.events.tell(StateChanged(self.state))
        self.events.end()
        with contextlib.suppress(EngineDied, EngineFailed):
            await self.engine.close(self.id)

    def lose(self, cause: str) -> None:
        """The engine died under it."""
        if self._closed or self._fatal:
            return
        self._fatal = cause
        self._resident = 0
        fatal = SessionFatal(cause)
        self._turns.end(fatal)
        self.events.tell(Faulted(fatal.reason, fatal.message))
        self.events.tell(StateChanged(self.state))
        self.events.end()

    def check_alive(self) -> None:
        """Raises what ended the session, if something did."""
        self._turns.check_open()

    # Turns.

    async def ensure_prefix(self, request: PrefixRequest, timings: Timings) -> PrefixStatus:
        """Bring the prefix to the asked one; whatever stood after the old one leaves the session."""
        async with self._turn("prefix"):
            return await self._move_to(await self._plan_prefix(request, timings), timings)

    async def prefill_suffix(self, request: SuffixRequest, timings: Timings) -> SuffixStatus:
        """Add a suffix after all that the session is, or after its prefix."""
        async with self._turn("suffix"):
            addition = await self._plan_suffix(request, self._prefix, timings, alone=False)
            return await self._add(addition, timings)

    async def decode(self, request: DecodeRequest, timings: Timings) -> AsyncGenerator[Chunk, None]:
        """A turn of its own: see `_answer`."""
        async with self._turn("decode"), contextlib.aclosing(self._answer(request, timings)) as chunks:
            async for chunk in chunks:
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
            new = self._prefix if prefix is None else await self._plan_prefix(prefix, timings)
            addition = await self._plan_suffix(suffix, new, timings, alone=prefix is not None)
            self._check_room(len(addition.base) + len(addition.suffix.tokens), request)
            if prefix is not None:
                yield await self._move_to(new, timings)
            yield await self._add(addition, timings)
            async with contextlib.aclosing(self._answer(request, timings)) as chunks:
                async for chunk in chunks:
                    yield chunk

    @contextlib.asynccontextmanager
    async def _turn(self, stage: str) -> AsyncGenerator[None, None]:
        async with self._turns.turn(stage):
            self.last_used_ms = time.time() * 1e3
            try:
                yield
            except EngineDied as died:
                self.lose(died.cause)
                raise SessionFatal(died.cause) from died
            except EngineFailed as failed:
                raise self._in_words(failed) from failed

    def _in_words(self, failed: EngineFailed) -> Exception:
        """An engine's failure as an error of the contract."""
        match failed.kind:
            case "no_room":
                return self._overflow()
            case "unsupported":
                return UnsupportedFeature(failed.field, self.engine.facts.backend)
            case "setting":
                return invalid(f"config.{failed.field}", str(failed))
            case "cancelled":
                return SessionClosed(self.name)
            case _:
                return SessionUnavailable(f"the backend failed: {failed}")

    def _overflow(self) -> ContextOverflow:
        """The backend had no room for what the turn is at."""
        busy = self._turns.busy()
        standing = 0 if self._turns.stage == "prefix" else len(self.tokens)
        asked = busy.total_tokens if busy is not None else 0
        more = asked if self._turns.stage != "suffix" else asked - standing
        return ContextOverflow(self._turns.stage, standing, max(1, more), self._num_ctx)

    # Parts of turns.

    async def _plan_prefix(self, request: PrefixRequest, timings: Timings) -> Prefix:
        """The prefix that is asked for. Raises if it is not what the client expects, or would not fit."""
        begun = time.monotonic()
        new = await self._sources.prefix(request)
        timings.tokenize_ms += (time.monotonic() - begun) * 1e3
        check(request.expect, new.manifest)
        if len(new.tokens) > self._num_ctx:
            raise ContextOverflow("prefix", 0, len(new.tokens), self._num_ctx)
        return new

    async def _move_to(self, new: Prefix, timings: Timings) -> PrefixStatus:
        """Bring the prefix to this one; whatever stood after the old one leaves the session."""
        advanced = await self._advance("prefix", new.tokens, timings)
        old, before = self._prefix, self.tokens
        dropped = len(before) - _common(before, new.tokens)
        self._prefix, self._tail, self._roles = new, [], self._opening_roles(new)
        self._resident = len(new.tokens)
        self._miss = explain_miss(old, new, advanced.reused, advanced.prefilled)
        if self._miss is not None and old.tokens:
            self.events.tell(Invalidated(self._miss))
        return PrefixStatus(
            reused_tokens=advanced.reused,
            restored_tokens=advanced.restored,
            prefilled_tokens=advanced.prefilled,
            dropped_tokens=dropped,
            prefix_tokens=len(new.tokens),
            resident_tokens=self._resident,
            available_tokens=self._num_ctx - self._resident,
            stable_byte_hash=new.manifest.stable_byte_hash,
            stable_token_hash=new.stable_token_hash,
            manifest_digest=new.manifest.digest,
            reuse_source=advanced.source,
        )

    async def _plan_suffix(
        self, request: SuffixRequest, prefix: Prefix, timings: Timings, *, alone: bool
    ) -> _Addition:
        """What is asked to be added after `prefix`; `alone` if nothing else will stand there. Raises if the context
        is not what the client expects, or it would not fit.
        """
        check(request.expect, prefix.manifest)
        alone = alone or request.replace
        tail = [] if alone else self._tail
        roles = self._opening_roles(prefix) if alone else self._roles
        begun = time.monotonic()
        suffix = await build_suffix(self.engine, self.config.prompt_format, request, roles)
        base = prefix.tokens + tail
        if not base and suffix.tokens and self.identity.add_bos:
            suffix = replace(suffix, tokens=[self.engine.facts.vocab.bos or 0, *suffix.tokens])
        timings.tokenize_ms += (time.monotonic() - begun) * 1e3
        if len(base) + len(suffix.tokens) > self._num_ctx:
            raise ContextOverflow("suffix", len(base), len(suffix.tokens), self._num_ctx)
        return _Addition(base, suffix)

    async def _add(self, addition: _Addition, timings: Timings) -> SuffixStatus:
        """Add a suffix after its base."""
        suffix, target = addition.suffix, addition.base + addition.suffix.tokens
        advanced = await self._advance("suffix", target, timings)
        self._tail, self._roles = target[len(self._prefix.tokens) :], suffix.roles
        self._resident = len(target)
        return SuffixStatus(
            suffix_tokens=len(suffix.tokens),
            reused_tokens=max(0, len(suffix.tokens) - advanced.prefilled),
            prefilled_tokens=advanced.prefilled,
            prefix_tokens=len(self._prefix.tokens),
            resident_tokens=self._resident,
            available_tokens=self._num_ctx - self._resident,
            manifest_digest=self._prefix.manifest.digest,
        )

    def _check_room(self, standing: int, request: DecodeRequest) -> None:
        """Raises if an answer after `standing` tokens would not fit, or has nothing to go on from."""
        room = self._num_ctx - standing
        if request.max_tokens > room or room == 0:
            raise ContextOverflow("decode", standing, max(1, request.max_tokens), self._num_ctx)
        if not standing:
            raise invalid("name", "there is nothing to go on from: no prefix, no suffix")

    async def _answer(self, request: DecodeRequest, timings: Timings) -> AsyncGenerator[Chunk, None]:
        """Generate after all that the session is. What was generated becomes part of it."""
        self._turns.check_open()
        base = self.tokens
        self._check_room(len(base), request)
        most = request.max_tokens or self._num_ctx - len(base)
        wish = Generation(self._resolved(request.sampling), most, request.stop)
        self._turns.note("decode", 0, most)
        count = 0
        try:
            async with contextlib.aclosing(self.engine.generate(self.id, base, wish, self._held)) as pieces:
                async for piece in pieces:
                    self._turns.check_open()
                    if isinstance(piece, wire.Generated):
                        self._take(base, wire.unpack_tokens(piece.tokens))
                        timings.decode_ms += piece.decode_ms
                        summary = Summary(
                            piece.reason, piece.stop_string, piece.generated, wish.sampling.seed
                        )
                        yield Chunk("", (), summary)
                        return
                    if not count:
                        timings.first_token_ms = timings.since_arrival()
                    count += len(piece.tokens)
                    self._turns.note("decode", count, most)
                    yield Chunk(piece.text, tuple(piece.tokens))
        finally:
            if count and (not self._roles or self._roles[-1] != "assistant"):
                self._roles = (*self._roles, "assistant")

    async def _advance(self, stage: str, tokens: Sequence[int], timings: Timings) -> wire.Advanced:
        def told(done: int, total: int) -> None:
            self._turns.note(stage, done, total)
            self.events.tell(PrefillProgressed(stage, done, total))

        self._turns.check_open()
        self._turns.note(stage, 0, len(tokens))
        advanced = await self.engine.advance(self.id, tokens, told, self._held)
        timings.queue_ms += advanced.queue_ms
        timings.prefill_ms += advanced.prefill_ms
        return advanced

    def _opening_roles(self, prefix: Prefix) -> tuple[str, ...]:
        """A framed prefix stands for a system message."""
        return ("system",) if prefix.tokens and self.config.prompt_format != RAW else ()

    def _take(self, base: Sequence[int], held: Sequence[int]) -> None:
        """The branch holds `base` and what was generated after it."""
        prefix = len(self._prefix.tokens)
        assert list(held[: len(base)]) == list(base), "an answer grew from other tokens"
        self._tail = list(held[prefix:])
        self._resident = len(held)

    def _held(self, held: Sequence[int]) -> None:
        """A job ended early: part of an answer may have become part of the session, and some of what was
        resident may be gone.
        """
        if self._closed or self._fatal:
            return  # what the branch held is gone with it
        mine = self.tokens
        same = _common(mine, held)
        if same == len(mine) and self._turns.stage == "decode":
            self._tail += held[same:]
            same = len(held)
        self._resident = same

    def _resolved(self, sampling: Sampling) -> Sampling:
        window = self._num_ctx if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        return replace(sampling, repeat_last_n=window)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens the two share from the first."""
    limit = min(len(a), len(b))
    if list(a[:limit]) == list(b[:limit]):
        return limit
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
