"""All functions of the daemon, by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import structlog

from sessiond.daemon.engine.process import EngineDied
from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.functions.body import Body, Decode, Packed
from sessiond.daemon.functions.call import call
from sessiond.daemon.functions.definition import MAX_ALL_SAID, MAX_FUNCTIONS, Definition
from sessiond.daemon.functions.function import Function
from sessiond.daemon.functions.many import Mapped, many
from sessiond.daemon.functions.shelf import Shelf
from sessiond.daemon.sessions.lanes import AT_ONCE
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.statuses import Chunk, Timings
from sessiond.v1.errors import FunctionNotFound, SessiondError, SessionFatal, SessionUnavailable

log = structlog.get_logger(__name__)


class FunctionRegistry:
    """In the daemon's event loop. `decode` and `read` know the client's words: how tokens are chosen, and all of a
    definition.
    """

    def __init__(
        self,
        sessions: SessionRegistry,
        shelf: Shelf,
        decode: Decode,
        read: Callable[[bytes], Definition],
    ) -> None:
        self._sessions = sessions
        self._shelf = shelf
        self._decode = decode
        self._read = read
        self._functions: dict[str, Function] = {}
        self._defining: dict[str, Definition] = {}
        """Those on their way, by name."""
        self._alone: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By name: one definition at a time."""
        self._lanes: WeakValueDictionary[tuple[Seat, str], asyncio.Semaphore] = WeakValueDictionary()
        """By arena: what of all maps there may run at once."""
        sessions.others_on = self._seats

    # What there is.

    def recall(self) -> None:
        """Read what was defined. A body stands when it is first called, or `stand_up` has it."""
        for name, said in self._shelf.load().items():
            try:
                definition = self._read(said)
                if definition.name != name:
                    raise SessionUnavailable(f"it is the definition of {definition.name}")
            except SessiondError as error:
                self._shelf.set_aside(name, error.message)
            else:
                self._functions[name] = self._function(definition)

    async def stand_up(self) -> None:
        """Have the bodies stand whose engine is loaded, nothing of them computed: then it can be said how long they are."""
        for function in self.all():
            try:
                if await self._sessions.is_loaded(function.definition.opened):
                    await function.standing()
            except SessiondError as refused:
                log.warning("function.stands_not_yet", function=function.name, error=refused.message)

    def all(self) -> list[Function]:
        """By name."""
        return [self._functions[name] for name in sorted(self._functions)]

    def get(self, name: str) -> Function:
        """Raises FunctionNotFound."""
        found = self._functions.get(name)
        if found is None:
            raise FunctionNotFound(name)
        return found

    # What changes it.

    async def define(self, definition: Definition, timings: Timings) -> Function:
        """Define a function, or another one of its name, with its body hot. Nothing changes where that fails.

        Raises InvalidInput, UnsupportedFeature, ManifestMismatch, ContextOverflow, SessionUnavailable.
        """
        name = definition.name
        async with self._alone.setdefault(name, asyncio.Lock()):
            old = self._functions.get(name)
            if old is not None and old.definition == definition:
                await old.prepared((), timings)
                return old
            with self._room(definition):
                made = self._function(definition)
                try:
                    await made.prepared((), timings)
                except BaseException:
                    await made.close()
                    raise
                await _to_its_end(self._put(made))
            return made

    async def delete(self, name: str) -> None:
        """Raises FunctionNotFound. Calls that run are answered to their end."""
        async with self._alone.setdefault(name, asyncio.Lock()):
            await _to_its_end(self._take_away(self.get(name)))

    def close(self) -> None:
        """Let go of the disk. What stands ends with the engines."""
        self._shelf.close()

    # What is asked of it.

    async def call(self, name: str, argument: str, timings: Timings) -> AsyncGenerator[Chunk, None]:
        """The answer to one argument; the last chunk has the summary.

        Raises FunctionNotFound, ContextOverflow, SessionUnavailable, and SessionFatal where the engine died in mid-answer.
        """
        body, [tokens] = await self._prepared(name, (argument,), timings, alone=True)
        try:
            async with contextlib.aclosing(call(name, body, tokens, timings)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except EngineDied as died:
            raise SessionFatal(died.cause) from died

    async def map(
        self, name: str, arguments: Sequence[str], timings: Timings
    ) -> AsyncGenerator[Mapped, None]:
        """The answers to many arguments, each as it ends. Raises as `call`; ContextOverflow before any of them runs."""
        body, found = await self._prepared(name, arguments, timings)
        lanes = self._lanes.setdefault((body.seat, body.home.arena), asyncio.Semaphore(AT_ONCE))
        try:
            async with contextlib.aclosing(many(name, body, found, lanes, timings)) as answers:
                async for mapped in answers:
                    yield mapped
        except EngineDied as died:
            raise SessionFatal(died.cause) from died

    # How it is done.

    async def _prepared(
        self, name: str, arguments: Sequence[str], timings: Timings, *, alone: bool = False
    ) -> tuple[Body, list[Packed]]:
        """As `Function.prepared`, of what is defined by that name when its body stands."""
        while True:
            function = self.get(name)
            try:
                return await function.prepared(arguments, timings, alone=alone)
            except FunctionNotFound:
                if self._functions.get(name) is function:
                    raise
                # Another one took its place while its body was waited for, or none did: `get` tells.

    async def _put(self, made: Function) -> None:
        try:
            await self._shelf.keep(made.name, made.definition.said)
        except BaseException:
            await made.close()
            raise
        old = self._functions.get(made.name)
        self._functions[made.name] = made
        log.info("function.defined", function=made.name, replaced=old is not None)
        if old is not None:
            await old.close()

    async def _take_away(self, function: Function) -> None:
        await self._shelf.remove(function.name)
        del self._functions[function.name]
        log.info("function.deleted", function=function.name)
        await function.close()

    def _function(self, definition: Definition) -> Function:
        async def take() -> Body:
            return await Body.take(self._sessions, definition, self._decode)

        return Function(definition, take)

    @contextlib.contextmanager
    def _room(self, new: Definition) -> Generator[None, None, None]:
        """Hold the room that a definition takes while it is on its way. Raises SessionUnavailable if with it, and with the others
        on their way, there would be too many, or all would take too much.
        """
        sizes = {each.name: len(each.definition.said) for each in self._functions.values()}
        for name, each in self._defining.items():
            sizes[name] = max(sizes.get(name, 0), len(each.said))  # where it fails, the one before stays
        sizes[new.name] = len(new.said)
        if len(sizes) > MAX_FUNCTIONS:
            raise SessionUnavailable(f"{MAX_FUNCTIONS} functions are defined, which is the limit")
        if sum(sizes.values()) > MAX_ALL_SAID:
            raise SessionUnavailable(
                f"all definitions take more than {MAX_ALL_SAID} bytes, which is the limit"
            )
        self._defining[new.name] = new
        try:
            yield
        finally:
            del self._defining[new.name]

    def _seats(self) -> list[Seat]:
        """What functions stand on."""
        return [function.seat for function in self._functions.values() if function.seat is not None]


async def _to_its_end(change: Coroutine[Any, Any, None]) -> None:
    """Make a change whole, also if the caller is cancelled meanwhile: what is on disk and what stands must be the same."""
    task = asyncio.create_task(change)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
