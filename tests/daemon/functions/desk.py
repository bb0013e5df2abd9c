"""Functions, and sessions to compare them with, over one engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.functions.function import Function
from sessiond.daemon.functions.many import Mapped
from sessiond.daemon.functions.registry import FunctionRegistry
from sessiond.daemon.functions.shelf import Shelf
from sessiond.daemon.server import from_proto, function_proto
from sessiond.daemon.server.fields import Fields
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Chunk, Timings
from sessiond.daemon.sessions.suffix import MessageInput, SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1 import config_pb2
from sessiond.v1 import function_service_pb2 as pb
from sessiond.v1.errors import InvalidInput


def asked(
    name: str = "f",
    body: str = "xyzzy " * 20,
    examples: Sequence[tuple[str, str]] = (),
    session_config: config_pb2.Config | None = None,
    model: str = "",
    **decoding: Any,
) -> pb.DefineFunctionRequest:
    """A definition as a client sends it."""
    return pb.DefineFunctionRequest(
        name=name,
        body=body,
        config=config_pb2.DecodeConfig(**decoding),
        examples=[pb.FunctionExample(argument=argument, value=value) for argument, value in examples],
        model=model,
        session_config=session_config,
    )


class Desk:
    """See the module."""

    def __init__(self, model: str, folder: Path | None = None, *, tiers: Tiers | None = None) -> None:
        self.model = model
        self._folder = folder

        async def same(name: str) -> str:
            return name or self.model

        self.sessions = SessionRegistry(same, 16, tiers=tiers)
        self.functions = FunctionRegistry(
            self.sessions, Shelf(folder), function_proto.decoding, function_proto.read
        )
        self.functions.recall()

    @property
    def engine(self) -> Engine:
        """The one that stands."""
        [engine] = self.sessions.pool.loaded()
        return engine

    async def define(self, *args: Any, **settings: Any) -> Function:
        """As a client does."""
        return await self.functions.define(function_proto.definition(asked(*args, **settings)), Timings())

    async def chunks(self, argument: str, name: str = "f") -> list[Chunk]:
        """An answer, piece by piece."""
        return [chunk async for chunk in self.functions.call(name, argument, Timings())]

    async def value(self, argument: str, name: str = "f") -> str:
        """An answer."""
        return "".join(chunk.text for chunk in await self.chunks(argument, name))

    async def mapped(self, arguments: Sequence[str], name: str = "f") -> list[Mapped]:
        """All answers, in the order in which they ended."""
        return [one async for one in self.functions.map(name, arguments, Timings())]

    async def session(self, request: pb.DefineFunctionRequest, argument: str) -> tuple[Session, str]:
        """What a session with the same messages is before its answer, and that answer."""
        fields = Fields()
        config = from_proto.session_config(fields, request.session_config)
        session, _ = await self.sessions.open(OpenRequest(None, request.model, f"beside {argument}", config))
        await session.ensure_prefix(PrefixRequest((Segment("text", "text", request.body),)), Timings())
        shown = [
            MessageInput(*pair)
            for e in request.examples
            for pair in (("user", e.argument), ("assistant", e.value))
        ]
        messages = SuffixRequest(messages=(*shown, MessageInput("user", argument)))
        await session.prefill_suffix(messages, Timings())
        decoding = from_proto.decode_request(request.config, session.engine.facts)
        before = session.tokens
        text = "".join([chunk.text async for chunk in session.decode(decoding, Timings())])
        assert session.tokens[: len(before)] == before
        self.before = before
        return session, text

    async def tally(self) -> wire.Tallied:
        """What the engine did."""
        return await self.engine.tally()

    async def branches(self) -> set[str]:
        """What stands in the engine, after it was compared with its backend. What failed is closed behind its error."""
        await asyncio.gather(*self.sessions._dropping)
        return set((await self.engine.check()).residence)

    async def stop(self) -> None:
        """End the engine."""
        await self.sessions.stop()
        self.functions.close()


def fields_of(error: InvalidInput) -> list[str]:
    """Which fields it names."""
    return [violation.field for violation in error.violations]
