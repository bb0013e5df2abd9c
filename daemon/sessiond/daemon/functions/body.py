"""The body of a function where it stands: the tokens before an argument, and the branch that keeps them hot.

A branch that is held leaves the cells only where there is no room for others, and last of all; a body's also where no memory
takes it. Where that happened, and where another engine stands, the body is brought up again by the next call, once for all
who wait.
"""

from __future__ import annotations

import asyncio
import secrets
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from sessiond.adapters.base import ModelFacts
from sessiond.daemon.engine.engine import Engine, untold
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.functions.definition import Decoding, Definition
from sessiond.daemon.sessions.branch import Branch, Patience
from sessiond.daemon.sessions.failures import in_words, unavailable
from sessiond.daemon.sessions.ground import Ground
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.lanes import lanes
from sessiond.daemon.sessions.prefix import build_prefix
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import ContextOverflow, InvalidInput, SessionClosed, invalid

Decode: TypeAlias = Callable[[Definition, ModelFacts], Decoding]
"""How a definition says that tokens are chosen. Raises InvalidInput, and UnsupportedFeature for what the model cannot do."""

Packed: TypeAlias = "array[int]"
"""Tokens, four bytes each: the arguments of a map are many."""

EXPECTED = 256
"""Tokens that an answer without a limit is taken to have, when it is decided how many calls there is room for."""
MAX_NAMED = 64
"""Arguments that would not fit of which one error tells."""
TOKENIZED = 256
"""Texts that are tokenized at one go: others who want tokens have their turn between."""


class Body:
    """See the module. In the daemon's event loop."""

    def __init__(self, name: str, ground: Ground, branch: str, decoding: Decoding) -> None:
        self._name = name
        self.home: Home = ground.home
        self.tokens: list[int] = []
        """Before an argument: the body, the examples, and the opening of the message that the argument is."""
        self.closing: tuple[int, ...] = ()
        """After an argument, up to the value."""
        self.decoding = decoding
        self.num_ctx = ground.config.context.num_ctx
        self._branch = Branch(ground.home, branch, self._moved, is_open=True, yields=True)
        self._hot_on: Engine | None = None
        """Where all of it is in cells."""
        self._rising = asyncio.Lock()
        self._closed = False
        self._leaving: set[asyncio.Task[None]] = set()

    @classmethod
    async def take(cls, registry: SessionRegistry, definition: Definition, decode: Decode) -> Body:
        """Have a body stand, computed or not. Nothing is left of one that cannot.

        Raises InvalidInput, UnsupportedFeature, ManifestMismatch, ContextOverflow, SessionUnavailable.
        """
        branch = f"function-{secrets.token_hex(8)}"
        try:
            ground = await registry.ground(definition.opened, branch, "a function was defined", yields=True)
        except InvalidInput as error:
            raise _of_session_config(error) from error
        async with registry.dropping_what_fails(ground.home.seat, branch):
            # Before anything is waited for: the branch is open on the engine that stands now, and not on the next one.
            body = cls(definition.name, ground, branch, decode(definition, ground.home.seat.facts))
            with unavailable("a function was defined"):
                body.tokens, body.closing = await _framed(ground, definition)
            if len(body.tokens) > body.num_ctx:
                raise ContextOverflow("prefix", 0, len(body.tokens), body.num_ctx)
            if overflow := body.overflow(0):
                raise overflow
            return body

    @property
    def seat(self) -> Seat:
        """What it stands on."""
        return self.home.seat

    # What fits.

    async def tokens_of(self, arguments: Sequence[str]) -> list[Packed]:
        """The tokens of arguments. Raises SessionUnavailable, SessionFatal if the model has changed."""
        found: list[Packed] = []
        with unavailable(f"{self._name} was called"):
            for start in range(0, len(arguments), TOKENIZED):
                told = await self.seat.tokenize(arguments[start : start + TOKENIZED])
                found += [array("i", each) for each in told]
        return found

    def check_all(self, arguments: Sequence[Sequence[int]]) -> None:
        """Raises ContextOverflow for all of them that would not fit, each named, up to a number of them."""
        overflows = {i: over for i, each in enumerate(arguments) if (over := self.overflow(len(each)))}
        if overflows:
            first = next(iter(overflows.values()))
            figures = first.stage, first.resident_tokens, first.additional_tokens, first.num_ctx
            raise ContextOverflow(*figures, list(overflows)[:MAX_NAMED])

    def overflow(self, argument: int) -> ContextOverflow | None:
        """Why a call with an argument of so many tokens would not fit, if it would not."""
        added, standing = argument + len(self.closing), len(self.tokens)
        if standing + added > self.num_ctx:
            return ContextOverflow("suffix", standing, added, self.num_ctx)
        room, most = self.num_ctx - standing - added, self.decoding.request.max_tokens
        if most > room or not room:
            return ContextOverflow("decode", standing + added, max(1, most), self.num_ctx)
        return None

    def at_once(self, argument: int) -> int:
        """How many calls with arguments of so many tokens may run side by side: none should have to wait for the cells of
        another.
        """
        each = argument + len(self.closing) + (self.decoding.request.max_tokens or EXPECTED)
        return lanes(self.home, len(self.tokens), each)

    # What is hot.

    async def rise(self, patience: Patience) -> None:
        """Have all of it in cells. Raises SessionUnavailable, SessionFatal if the model has changed.

        Of a body that was closed nothing is kept: a call that still runs computes what it needs.
        """
        async with self._rising:
            engine = self.home.engine
            if self._closed or (self._hot_on is engine and engine.process.ended is None):
                return
            with unavailable(f"the body of {self._name} was computed"):
                try:
                    await self._bring_up(patience)
                except (EngineFailed, SessionClosed) as failed:
                    if self._is_closed():
                        return
                    if isinstance(failed, SessionClosed):
                        raise
                    overflow = ContextOverflow("prefix", 0, len(self.tokens), self.num_ctx)
                    backend = self.seat.facts.backend
                    raise in_words(failed, self._name, backend, lambda: overflow) from failed

    def _is_closed(self) -> bool:
        return self._closed

    async def _bring_up(self, patience: Patience) -> None:
        async with self._branch.turn():
            await self._branch.advance(self.tokens, untold, _unheard, (), patience)
        self._hot_on = self.home.engine

    def _moved(self, resident: int, _in_memory: int) -> None:
        if resident < len(self.tokens):
            self._hot_on = None

    # How it ends.

    async def leave(self, branch: Branch) -> None:
        """Close the branch of a call, also if the caller is cancelled meanwhile."""
        leaving = asyncio.create_task(branch.close())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.shield(leaving)

    async def close(self) -> None:
        """Give back what keeps it hot. Calls that run are not touched."""
        self._closed = True
        await self.leave(self._branch)


def _unheard(_held: Sequence[int]) -> None:
    """What is not whole is brought up again, whatever it holds."""


async def _framed(ground: Ground, definition: Definition) -> tuple[list[int], tuple[int, ...]]:
    """The tokens before an argument and after it: those of a session whose prefix is the body, and whose messages are the
    examples and the argument.
    """
    seat, form = ground.home.seat, ground.config.prompt_format
    roles = ["system", *("user", "assistant") * len(definition.examples), "user"]
    try:
        framing = await seat.framing(form, roles)
    except EngineFailed as failed:
        if failed.kind != "setting":
            raise
        raise invalid("examples", f"the prompt format does not allow them: {failed}") from failed
    prefix = await build_prefix(seat, ground.identity, form, [Segment("text", "text", definition.body)])
    shown = [text for example in definition.examples for text in (example.argument, example.value)]
    tokens = list(prefix.tokens)
    for before, content in zip(framing.runs[1:-2], await seat.tokenize(shown), strict=True):
        tokens += [*before, *content]
    return [*tokens, *framing.runs[-2]], framing.runs[-1]


def _of_session_config(error: InvalidInput) -> InvalidInput:
    """A session calls its settings `config`, which is another thing of a function."""
    return InvalidInput(
        [
            replace(each, field=f"session_{each.field}") if each.field.startswith("config") else each
            for each in error.violations
        ]
    )
