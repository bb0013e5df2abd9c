"""Where a prefix comes from: given segments, or the assembly of the session's workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.manifest import Identity
from sessiond.daemon.sessions.prefix import Prefix, build_prefix, empty_prefix
from sessiond.daemon.sessions.workspaces import Workspace
from sessiond.daemon.workspace.assemble import Assembly
from sessiond.daemon.workspace.order import Order
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import invalid

WORKSPACE_SHARE = 0.75
"""How much of the window the assembly of a workspace may take where the client leaves it open."""


@dataclass(frozen=True, slots=True)
class PrefixRequest:
    """What the prefix should be: given segments, or the assembly of the workspace."""

    segments: tuple[Segment, ...] = ()
    workspace: bool = False
    max_tokens: int = 0
    """Of the assembly; 0 leaves it to the daemon."""
    expect: dict[str, str] | None = None
    keep_hot: bool = True
    """Whether the workspace's prefix is brought up to date in the background, until the next request."""


class Sources:
    """What one session's prefixes are made from."""

    def __init__(
        self, seat: Seat, identity: Identity, config: SessionConfig, workspace: Workspace | None
    ) -> None:
        self._seat = seat
        self._identity = identity
        self._config = config
        self._workspace = workspace
        self._last_segments: tuple[Segment, ...] = ()
        self._last = empty_prefix(identity)
        """What was made of these."""
        self._remembers = True

    async def prefix(self, request: PrefixRequest) -> Prefix:
        """The prefix that is asked for. Raises InvalidInput, PermissionDenied."""
        if request.workspace:
            return await self.of_workspace(request.max_tokens)
        return await self._built(Assembly(request.segments, ()))

    async def of_workspace(self, max_tokens: int = 0, order: Order | None = None) -> Prefix:
        """The prefix that the files make now; 0 leaves the budget to us, and None the order of the files.

        Raises InvalidInput, PermissionDenied.
        """
        if self._workspace is None:
            raise invalid("prefix.workspace", "the session was opened without a workspace")
        await self._seat.standing()  # so that nobody waits in a thread while a model is loaded
        loop = asyncio.get_running_loop()

        def count(texts: Sequence[str]) -> list[int]:
            # Called from the thread that reads the disk; the engine belongs to the event loop.
            found = asyncio.run_coroutine_threadsafe(self._seat.tokenize(texts), loop).result()
            return [len(tokens) for tokens in found]

        most = max_tokens or int(self._config.context.num_ctx * WORKSPACE_SHARE)
        return await self._built(await self._workspace.assemble(count, most, order))

    def forget(self) -> None:
        """Give back what is only remembered, and remember nothing more: an assembly may still be under way."""
        self._remembers = False
        self._last_segments, self._last = (), empty_prefix(self._identity)

    async def _built(self, assembly: Assembly) -> Prefix:
        """Nearly every turn asks for what the one before it had: then nothing is joined and hashed anew."""
        if assembly.segments == self._last_segments:
            return replace(self._last, left_out=tuple(assembly.left_out))
        made = await build_prefix(
            self._seat, self._identity, self._config.prompt_format, assembly.segments, assembly.left_out
        )
        if self._remembers:
            self._last_segments, self._last = assembly.segments, made
        return made
