"""A registry of sessions with snapshots, and what is done with them. Another one is another daemon."""

from __future__ import annotations

import os
from pathlib import Path

from sessiond.adapters.base import ContextSettings, ModelSettings, Sampling
from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.snapshot import Snapshots
from sessiond.daemon.sessions.statuses import Timings

MODEL = "scripted-kv:"


class Desk:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        async def same(model: str) -> str:
            return model or MODEL

        self.folder = folder
        self.registry = SessionRegistry(same, 16, default_num_ctx=512, tiers=Tiers(memory=1 << 20))
        self.snapshots = Snapshots(folder / "snapshot.key")

    async def open(
        self,
        model: str = MODEL,
        key: str = "",
        root: Path | None = None,
        loading: ModelSettings | None = None,
        prompt_format: str = "raw",
        **context: object,
    ) -> Session:
        settings = ContextSettings(**context)  # type: ignore[arg-type]  # the caller's own names
        config = SessionConfig(loading or ModelSettings(), settings, prompt_format)
        session, _ = await self.registry.open(OpenRequest(root, model, key or os.urandom(4).hex(), config))
        return session

    async def save(self, session: Session, name: str = "s") -> Path:
        path = self.folder / name
        assert await self.snapshots.save(session, path) == path.stat().st_size
        return path


def folder_at(path: Path) -> Path:
    """A new folder of our own."""
    path.mkdir(mode=0o700)
    return path


async def answer(session: Session, most: int = 6) -> list[int]:
    chunks = [c async for c in session.decode(DecodeRequest(Sampling(temperature=0.0), most), Timings())]
    return [token for chunk in chunks for token in chunk.token_ids]


async def logits(desk: Desk, session: Session) -> bytes:
    """What it would say next."""
    async with desk.registry.memory.turn(session.engine, session.home.arena):
        return await session.engine.logits(session.branch.name, session.tokens)
