"""What an engine fails of is told in the contract's words."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncGenerator
from typing import cast

import pytest
import pytest_asyncio

from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.metrics.meter import Meter
from sessiond.daemon.server import to_proto
from sessiond.daemon.server.model_servicer import Context, ModelServicer
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.settings import Settings
from sessiond.v1 import model_service_pb2 as pb
from sessiond.v1.errors import SessionUnavailable

_MODEL = "scripted-kv:embed"
_NOBODY = cast("Context", None)


@pytest_asyncio.fixture
async def registry() -> AsyncGenerator[SessionRegistry, None]:
    async def same(model: str) -> str:
        return model or _MODEL

    made = SessionRegistry(same, 4)
    yield made
    await made.stop()


@pytest.fixture
def servicer(registry: SessionRegistry) -> ModelServicer:
    # Of these it needs nothing here.
    return ModelServicer(registry, cast("ModelCatalog", None), cast("Meter", None), cast("Settings", None))


@pytest.mark.parametrize("method", ["Embed", "Tokenize"])
async def test_an_engine_that_fails_is_unavailable(
    registry: SessionRegistry, servicer: ModelServicer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def fail(*_args: object, **_more: object) -> None:
        raise EngineFailed(wire.Failed(1, "backend", "no memory for a context", "", b""))

    engine = await registry.engine(_MODEL)
    embed, tokenize = pb.EmbedRequest(texts=["a"]), pb.TokenizeRequest(text="a")
    with monkeypatch.context() as failing:
        failing.setattr(engine, method.lower(), fail)
        with pytest.raises(SessionUnavailable, match="no memory for a context"):
            await (
                servicer.Embed(embed, _NOBODY) if method == "Embed" else servicer.Tokenize(tokenize, _NOBODY)
            )
    assert len((await servicer.Embed(embed, _NOBODY)).embeddings) == 1


async def test_vectors_are_made_messages_beside_the_loop(
    servicer: ModelServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, threads = to_proto.embeddings, set[int]()

    def noting(found: wire.Embedded) -> pb.EmbedResponse:
        threads.add(threading.get_ident())
        return make(found)

    monkeypatch.setattr(to_proto, "embeddings", noting)
    answer = await servicer.Embed(pb.EmbedRequest(texts=["a", "b"], normalize=True), _NOBODY)
    assert [math.hypot(*each.values) for each in answer.embeddings] == pytest.approx([1.0, 1.0])
    assert threads and threading.get_ident() not in threads
