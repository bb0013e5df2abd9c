"""A branch is opened where there is memory for its arena, if it is the first one there."""

from __future__ import annotations

import contextlib

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.v1.errors import SessionUnavailable

LEAST = 1
"""Bytes, with which no arena can be made; 0 would be no limit."""


async def open_branch(
    memory: KvMemory,
    engine: Engine,
    branch: str,
    arena: str,
    root: str,
    settings: ContextSettings,
    *,
    background: bool = False,
    apart: bool = False,
    keeps: int | None = None,
    yields: bool = False,
) -> wire.Opened:
    """Open a branch in an arena of the workspace `root`. For a new arena idle workspaces give their cells back until there
    is memory; not so in the `background`, for which nobody waits. One that stands already takes no memory, and waits for no
    other engine, which may hang while it makes one.

    Raises SessionUnavailable if there is not enough, EngineDied, EngineFailed.
    """

    async def within(kv_limit: int) -> wire.Opened:
        opened = await engine.open(
            *(branch, arena, settings),
            kv_limit=kv_limit,
            workspace=root,
            apart=apart,
            keeps=keeps,
            yields=yields,
        )
        memory.opened(engine, arena, root, opened)
        return opened

    if memory.settings(engine, arena) is not None:
        try:
            return await within(LEAST)
        except EngineFailed as failed:
            if failed.kind != "no_memory":  # else it was given back just now
                raise
    async with memory.opening:
        while True:
            try:
                return await within(max(LEAST, memory.room_for_new()))
            except EngineFailed as failed:
                if failed.kind != "no_memory":
                    raise
                if background or not await memory.give_way():
                    raise SessionUnavailable(
                        f"{failed} beside a reserve of {memory.reserve} bytes"
                    ) from failed


async def drop(engine: Engine, branch: str) -> None:
    """Close a branch that may have been opened. Never raises for what the engine does."""
    with contextlib.suppress(EngineDied, EngineFailed):
        await engine.close(branch)
