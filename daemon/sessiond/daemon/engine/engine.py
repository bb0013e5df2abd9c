"""A loaded model, as sessions see it: tokens, frames, branches. Its process is behind this face.

An `Engine` lives as long as its process. What outlives it, and starts the next one, is the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from sessiond.adapters.base import ContextSettings, ModelFacts, ModelSettings, Sampling
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.process import Call, EngineDied, EngineFailed, EngineProcess

CACHED_TOKENS = 1 << 22
"""Tokens of texts that are kept, so that an unchanged segment is not tokenized again (16 MiB)."""


@dataclass(frozen=True, slots=True)
class Framing:
    """The tokens around messages of some roles, one run more than there are roles."""

    pieces: tuple[str, ...]
    runs: tuple[tuple[int, ...], ...]
    """Tokens of each piece."""
    template_digest: str


@dataclass(frozen=True, slots=True)
class Generation:
    """How an answer is made."""

    sampling: Sampling
    max_tokens: int
    stop: tuple[str, ...] = ()
    patience_s: float | None = None
    """Seconds after which whoever asked gives up."""
    guesses: bool = True
    """Whether tokens may be guessed ahead."""
    named: tuple[tuple[int, int], ...] = ()
    """Ranges of the tokens before it that the answer is the likeliest to repeat."""
    legs: tuple[int, ...] = ()
    """After how many of these tokens each part of the way to them ends, of which is told by itself."""
    borders: tuple[int, ...] = ()
    """As in `wire.Advance`."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """Where an engine may keep KV that has no cells."""

    memory: int = 0
    """Bytes."""
    disk: int = 0
    """Bytes."""
    folder: Path | None = None
    """Of the disk; no other engine uses it."""


Held = Callable[[Sequence[int]], None]
"""Hears what a branch holds after a job on it failed or was cancelled."""


Told = Callable[[int, int], None]
"""Hears tokens done and to do."""


Moved = Callable[[int, int], None]
"""Hears how many tokens of a branch are in cells, and how many follow in memory, when others made them move."""


def untold(_done: int, _total: int) -> None:
    """For who does not listen."""


class Engine:
    """One model in one process. Every call may raise EngineDied or EngineFailed."""

    def __init__(self, process: EngineProcess, model: str, loaded: wire.Loaded) -> None:
        self._process = process
        self.model = model
        self.facts: ModelFacts = loaded.facts
        self.defaults: ContextSettings = loaded.defaults
        """What holds where nobody says otherwise."""
        self.measured = wire.Measured([])
        """What that is based on, if it was measured."""
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        """Packed tokens by the digest of their text."""
        self._cached = 0
        self._calls: dict[str, Call] = {}
        """The job that runs on a branch."""
        self._framings: dict[tuple[str, tuple[str, ...]], Framing] = {}
        self._moved: dict[str, Moved] = {}
        """By branch, who hears when its KV moves."""
        self.on_arena: Callable[[wire.ArenaState], None] = lambda _state: None
        process.on_event = self._heard

    @classmethod
    async def load(
        cls,
        process: EngineProcess,
        adapter: str,
        model: str,
        settings: ModelSettings,
        told: Callable[[float], None],
        tiers: Tiers | None = None,
    ) -> Engine:
        """Load a model into a fresh process; `told` hears shares of 1."""
        kept = tiers or Tiers()
        call = process.call(
            wire.Load(
                process.next_id(), adapter, model, settings, kept.memory, str(kept.folder or ""), kept.disk
            )
        )
        try:
            while True:
                event = await call.next()
                if isinstance(event, wire.Progress):
                    told(event.done / event.total)
                elif isinstance(event, wire.Done):
                    assert isinstance(event.answer, wire.Loaded)
                    return cls(process, model, event.answer)
        finally:
            call.forget()

    @property
    def process(self) -> EngineProcess:
        """The process behind it."""
        return self._process

    def filled(self, wanted: ContextSettings, num_ctx: int) -> ContextSettings:
        """What a client wants, and where it leaves that open, what the daemon chose for this model.

        `num_ctx` is the daemon's own default window, 0 if it has none; it is bounded by what the model can, while a
        client's wish is not bent.
        """
        chosen = self.defaults
        own = min(num_ctx, self.facts.num_ctx_train) or chosen.num_ctx
        filled = replace(
            wanted,
            num_ctx=wanted.num_ctx or own,
            num_ubatch=wanted.num_ubatch or chosen.num_ubatch,
            num_threads=wanted.num_threads or chosen.num_threads,
            num_threads_batch=wanted.num_threads_batch or chosen.num_threads_batch,
        )
        if wanted.flash_attn is None and not wanted.deterministic and not wanted.kv_cache_type:
            filled = replace(filled, flash_attn=chosen.flash_attn)
        return filled

    async def tokenize(self, texts: Sequence[str], *, parse_special: bool = False) -> list[list[int]]:
        """The tokens of each text by itself. Texts that came before are not tokenized again."""
        keys = [
            blake2b(text.encode(), digest_size=16, person=b"special" if parse_special else b"").digest()
            for text in texts
        ]
        found = {key: self._cache[key] for key in keys if key in self._cache}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new:
            answer = await self._process.ask(
                wire.Tokenize(self._process.next_id(), list(new.values()), parse_special)
            )
            assert isinstance(answer, wire.TokenLists)
            found |= dict(zip(new, answer.lists, strict=True))
        for key in keys:
            self._remember(key, found[key])
        while self._cached > CACHED_TOKENS and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1]) // 4
        return [wire.unpack_tokens(found[key]) for key in keys]

    def _remember(self, key: bytes, packed: bytes) -> None:
        if key not in self._cache:
            self._cache[key] = packed
            self._cached += len(packed) // 4
        self._cache.move_to_end(key)

    async def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token."""
        answer = await self._process.ask(wire.Pieces(self._process.next_id(), wire.pack_tokens(tokens)))
        assert isinstance(answer, wire.PieceList)
        return answer.pieces

    async def embed(self, texts: Sequence[str], *, normalize: bool = False) -> wire.Embedded:
        """A vector of each text; see `wire.Embedded`. A cancel here is a cancel there."""
        call = self._process.call(wire.Embed(self._process.next_id(), list(texts), normalize))
        try:
            while True:
                event = await call.next()
                if isinstance(event, wire.Done):
                    assert isinstance(event.answer, wire.Embedded)
                    return event.answer
        finally:
            if call.over:
                call.forget()
            else:
                await asyncio.shield(asyncio.create_task(_left(call, b"")))

    async def framing(self, prompt_format: str, roles: Sequence[str]) -> Framing:
        """The tokens around messages of these roles."""
        key = (prompt_format, tuple(roles))
        found = self._framings.get(key)
        if found is None:
            answer = await self._process.ask(wire.Frame(self._process.next_id(), prompt_format, list(roles)))
            assert isinstance(answer, wire.Framed)
            runs = await self.tokenize(answer.pieces, parse_special=True)
            found = Framing(tuple(answer.pieces), tuple(tuple(run) for run in runs), answer.template_digest)
            if len(self._framings) > 256:
                self._framings.clear()
            self._framings[key] = found
        return found

    async def open(
        self,
        branch: str,
        arena: str,
        settings: ContextSettings,
        *,
        parent: str = "",
        kv_limit: int = 0,
        workspace: str = "",
        apart: bool = False,
        keeps: int | None = None,
        yields: bool = False,
    ) -> wire.Opened:
        """A branch in an arena, which is made if it is new; see `wire.Open`."""
        command_id = self._process.next_id()
        answer = await self._process.ask(
            wire.Open(command_id, branch, arena, settings, parent, kv_limit, workspace, apart, keeps, yields)
        )
        assert isinstance(answer, wire.Opened)
        return answer

    async def close(self, branch: str) -> None:
        """Forget a branch."""
        self._moved.pop(branch, None)
        await self._process.ask(wire.Close(self._process.next_id(), branch))

    async def measure(self) -> wire.Measured:
        """Time the ways in which this model can be run here; nothing else is done meanwhile."""
        answer = await self._process.ask(wire.Measure(self._process.next_id()))
        assert isinstance(answer, wire.Measured)
        return answer

    async def park(self, arena: str) -> None:
        """Have an arena give its cells back."""
        await self._process.ask(wire.Park(self._process.next_id(), arena))

    async def limit_memory(self, memory_tier: int) -> None:
        """Have it keep no more than so many bytes of KV in memory beside the cells."""
        await self._process.ask(wire.LimitMemory(self._process.next_id(), memory_tier))

    async def flush(self, seconds: float) -> None:
        """Have it write to the disk what is not written yet, for so many seconds at most."""
        await self._process.ask(wire.Flush(self._process.next_id(), seconds))

    async def check(self) -> wire.Checked:
        """Where every branch is, after a comparison with the backend: for tests and for diagnosis."""
        answer = await self._process.ask(wire.Check(self._process.next_id()))
        assert isinstance(answer, wire.Checked)
        return answer

    async def tally(self) -> wire.Tallied:
        """What was done and what waits. Answered within milliseconds, whatever is computed meanwhile."""
        answer = await self._process.ask(wire.Tally(self._process.next_id()))
        assert isinstance(answer, wire.Tallied)
        return answer

    def listen(self, branch: str, moved: Moved) -> None:
        """Hear when KV of a branch moves without a job of its own."""
        self._moved[branch] = moved

    def _heard(self, event: wire.AnyEvent) -> None:
        match event:
            case wire.Residence():
                call = self._calls.get(event.branch)
                # What comes before a job's end was said before the job began. Its end and this may come in one piece.
                if (call is None or call.ended) and event.branch in self._moved:
                    self._moved[event.branch](event.resident, event.in_memory)
            case wire.ArenaState():
                self.on_arena(event)
            case _:
                pass

    def interrupt(self, branch: str) -> None:
        """End the job that runs on a branch: whoever waits for it gets EngineFailed, "cancelled"."""
        running = self._calls.get(branch)
        if running is not None:
            self._process.cancel(running.id)

    async def advance(
        self,
        branch: str,
        tokens: Sequence[int],
        told: Told,
        held: Held,
        *,
        borders: Sequence[int] = (),
        background: bool = False,
        patience_s: float | None = None,
    ) -> wire.Advanced:
        """Bring a branch to tokens; `told` hears tokens done and to do. A cancel here is a cancel there, and
        `held` hears what the branch holds after one. The rest is as in `wire.Advance`.
        """
        command = wire.Advance(
            self._process.next_id(),
            branch,
            wire.pack_tokens(tokens),
            wire.pack_tokens(borders),
            background=background,
            patience_s=patience_s,
        )
        async with contextlib.aclosing(self._job(command, held)) as events:
            async for event in events:
                if isinstance(event, wire.Progress):
                    told(event.done, event.total)
                elif isinstance(event, wire.Done):
                    assert isinstance(event.answer, wire.Advanced)
                    return event.answer
        raise AssertionError("a job ends with Done or an exception")

    async def generate(
        self, branch: str, tokens: Sequence[int], wish: Generation, held: Held, told: Told = untold
    ) -> AsyncGenerator[wire.Reached | wire.Piece | wire.Generated, None]:
        """Bring a branch to tokens and go on from there. There is one Reached for each leg, and the last item is Generated. The
        rest is as in `advance`.
        """
        command = wire.Generate(
            self._process.next_id(),
            branch,
            wire.pack_tokens(tokens),
            wish.sampling,
            wish.max_tokens,
            list(wish.stop),
            wish.patience_s,
            wish.guesses,
            list(wish.named),
            list(wish.legs),
            wire.pack_tokens(wish.borders),
        )
        async with contextlib.aclosing(self._job(command, held)) as events:
            async for event in events:
                if isinstance(event, wire.Progress):
                    told(event.done, event.total)
                elif isinstance(event, wire.Reached | wire.Piece):
                    yield event
                elif isinstance(event, wire.Done):
                    assert isinstance(event.answer, wire.Generated)
                    yield event.answer

    async def logits(self, branch: str, tokens: Sequence[int]) -> bytes:
        """The logits after these tokens, native float32: for tests of exactness and for diagnosis."""
        answer = await self._process.ask(
            wire.Logits(self._process.next_id(), branch, wire.pack_tokens(tokens))
        )
        assert isinstance(answer, wire.RawLogits)
        return answer.logits

    async def weigh(
        self,
        branch: str,
        tokens: Sequence[int],
        more: Sequence[int],
        patience_s: float | None = None,
    ) -> wire.Weighed:
        """How likely each of `more` is after the tokens, to which the branch is brought, and those before it."""
        command = wire.Weigh(
            self._process.next_id(), branch, wire.pack_tokens(tokens), wire.pack_tokens(more), patience_s
        )
        answer = await self._done(command)
        assert isinstance(answer, wire.Weighed)
        return answer

    async def save_kv(self, branch: str, tokens: Sequence[int], start: int, end: int) -> bytes:
        """The KV of the tokens from `start` to `end`, to which the branch is brought."""
        command = wire.SaveKv(self._process.next_id(), branch, wire.pack_tokens(tokens), start, end)
        answer = await self._done(command)
        assert isinstance(answer, wire.KvPiece)
        return answer.payload

    async def load_kv(
        self, branch: str, tokens: Sequence[int], start: int, num_cells: int, payload: bytes
    ) -> wire.KvTaken:
        """Bring a branch to tokens with KV that `save_kv` gave in an arena of so many cells; see `wire.LoadKv`."""
        command = wire.LoadKv(
            self._process.next_id(), branch, wire.pack_tokens(tokens), start, num_cells, payload
        )
        answer = await self._done(command)
        assert isinstance(answer, wire.KvTaken)
        return answer

    async def _done(self, command: wire.Weigh | wire.SaveKv | wire.LoadKv) -> wire.Answer:
        """A job's answer, where nobody asks what the branch holds after one that failed."""
        async with contextlib.aclosing(self._job(command, lambda _held: None)) as events:
            async for event in events:
                if isinstance(event, wire.Done):
                    return event.answer
        raise AssertionError("a job ends with Done or an exception")

    async def _job(
        self, command: wire.Advance | wire.Generate | wire.Weigh | wire.SaveKv | wire.LoadKv, held: Held
    ) -> AsyncGenerator[wire.AnyEvent, None]:
        """A command that is cancelled when nobody listens any more, and is over before this ends: then its
        branch is free for the next one.
        """
        call = self._process.call(command)
        self._calls[command.branch] = call
        try:
            while not call.over:
                yield await call.next()
        except EngineFailed as failed:
            held(failed.held)
            raise
        finally:
            self._calls.pop(command.branch, None)
            if call.over:
                call.forget()
            else:
                # Shielded: a second cancel must not leave a job behind that still works on the branch.
                held(await asyncio.shield(asyncio.create_task(_left(call, command.tokens))))


async def _left(call: Call, target: bytes) -> list[int]:
    """End a job early; what its branch holds then. A cancel may come when the branch is at its target already."""
    try:
        answer = await call.end_early()
    except EngineFailed as failed:
        return failed.held
    except EngineDied:
        return []
    return wire.unpack_tokens(answer.tokens if isinstance(answer, wire.Generated) else target)
