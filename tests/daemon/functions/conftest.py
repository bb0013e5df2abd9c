"""Functions over real engines on scripted models."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.daemon.functions.desk import Desk


@pytest.fixture
def model() -> str:
    """A character of "xyz" is a token of it."""
    return "scripted-kv:num_ctx=2048"


@pytest_asyncio.fixture
async def desk(model: str, tmp_path: Any) -> AsyncGenerator[Desk, None]:
    """Functions that are kept in a folder."""
    made = Desk(model, tmp_path / "functions")
    yield made
    await made.stop()
