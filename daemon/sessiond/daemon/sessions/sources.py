"""Where a prefix comes from: given segments, or the assembly of the session's workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.manifest import Identity
from sessiond.daemon.sessions.prefix import Prefix, build_prefix
from sessiond.daemon.workspace.assemble import Assembly, assemble
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


class Sources:
    """What one session's prefixes are made from."""

    def __init__(self, engine: Engine, identity: Identity, config: SessionConfig, root: Path | None) -> None:
        self._engine = engine
        self._identity = identity
        self._config = config
        self._root = root

    async def prefix(self, request: PrefixRequest) -> Prefix:
        """The prefix that is asked for. Raises InvalidInput, PermissionDenied."""
        assembly = await self._assembled(request) if request.workspace else Assembly(request.segments, ())
        return await build_prefix(
            self._engine, self._identity, self._config.prompt_format, assembly.segments, assembly.left_out
        )

    async def _assembled(self, request: PrefixRequest) -> Assembly:
        if self._root is None:
            raise invalid("prefix.workspace", "the session was opened without a workspace")
        loop = asyncio.get_running_loop()

        def count(texts: Sequence[str]) -> list[int]:
            # Called from the thread that reads the disk; the engine belongs to the event loop.
            found = asyncio.run_coroutine_threadsafe(self._engine.tokenize(texts), loop).result()
            return [len(tokens) for tokens in found]

        most = request.max_tokens or int(self._config.context.num_ctx * WORKSPACE_SHARE)
        return await asyncio.to_thread(assemble, self._root, count, most)
