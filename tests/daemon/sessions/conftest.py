"""Sessions over real engines on scripted models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import pytest_asyncio

from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import Session


async def _same(model: str) -> str:
    return model or "scripted-kv:"


@pytest.fixture
def most() -> int:
    """Sessions that may be open at once."""
    return 16


@pytest_asyncio.fixture
async def registry(most: int) -> AsyncGenerator[SessionRegistry, None]:
    made = SessionRegistry(_same, most, default_num_ctx=512)
    yield made
    await made.stop()


Opener = Callable[..., Awaitable[Session]]


@pytest.fixture
def opened(registry: SessionRegistry) -> Opener:
    """Opens a session, by model, key and config."""

    async def open_one(model: str = "scripted-kv:", key: str = "", **config: object) -> Session:
        session, _ = await registry.open(OpenRequest(None, model, key, SessionConfig(**config)))  # type: ignore[arg-type]  # the caller's own names
        return session

    return open_one
