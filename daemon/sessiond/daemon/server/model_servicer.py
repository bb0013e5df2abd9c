"""ModelService over the catalog and the engines."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.metrics.activity import activity
from sessiond.daemon.metrics.meter import Meter
from sessiond.daemon.server import from_proto, to_proto
from sessiond.daemon.server.boundary import note
from sessiond.daemon.server.fields import Fields
from sessiond.daemon.server.support_proto import support_facts
from sessiond.daemon.sessions.failures import unavailable
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.settings import Settings
from sessiond.v1 import model_service_pb2 as pb
from sessiond.v1 import model_service_pb2_grpc
from sessiond.v1.errors import SessionUnavailable, UnsupportedFeature, invalid

Context = grpc.aio.ServicerContext[Any, Any]
MAX_TOKENS = 1 << 22


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Each method converts, asks, converts back."""

    def __init__(
        self, registry: SessionRegistry, catalog: ModelCatalog, meter: Meter, settings: Settings
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._meter = meter
        self._settings = settings

    async def _engine(self, model: str) -> Engine:
        fields = Fields()
        fields.text("model", model, 4096)
        fields.done()
        return await self._registry.engine(model)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """See the contract."""
        engine = await self._engine(request.model)
        return pb.GetModelResponse(model=to_proto.model(engine.facts, engine.model, engine.defaults))

    async def GetRuntime(self, request: pb.GetRuntimeRequest, context: Context) -> pb.GetRuntimeResponse:
        """See the contract."""
        now = await self._meter.read()
        memory, pool = self._registry.memory, self._registry.pool
        facts = [engine.facts for engine in pool.loaded()]
        return pb.GetRuntimeResponse(
            models=[to_proto.model_runtime(engine) for engine in pool.loaded()],
            arenas=[to_proto.arena_runtime(record) for record in memory.records()],
            kv_bytes=memory.taken,
            kv_free_bytes=memory.free(),
            reserve_bytes=memory.reserve,
            kv_limit_bytes=memory.most,
            memory_tier_limit_bytes=pool.tiers.memory,
            activity=activity(now),
            support=support_facts(self._settings, facts, now) if request.with_support else None,
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See the contract."""
        found = await self._catalog.found()
        default = await self._catalog.resolve("")
        loaded = {engine.model for engine in self._registry.pool.loaded()}
        return pb.ListModelsResponse(
            models=[
                pb.ModelFile(
                    name=each.name,
                    absolute_path=each.absolute_path,
                    source=each.source,
                    size_bytes=each.size_bytes,
                    is_default=each.absolute_path == default,
                    is_loaded=each.absolute_path in loaded,
                )
                for each in sorted(found, key=lambda each: (each.source, each.name))
            ]
        )

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """See the contract."""
        fields = Fields()
        fields.text("text", request.text)
        fields.done()
        engine = await self._engine(request.model)
        with unavailable("a text was tokenized"):
            [tokens] = await engine.tokenize([request.text], parse_special=request.parse_special)
            bos = engine.facts.vocab.bos
            if request.add_bos and engine.facts.vocab.add_bos and bos is not None:
                tokens = [bos, *tokens]
            pieces = await engine.pieces(tokens)
        return pb.TokenizeResponse(token_ids=tokens, pieces=pieces)

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Context) -> pb.DetokenizeResponse:
        """See the contract."""
        if len(request.token_ids) > MAX_TOKENS:
            raise invalid("token_ids", f"has more than {MAX_TOKENS} entries")
        engine = await self._engine(request.model)
        try:
            pieces = await engine.pieces(request.token_ids)
        except EngineFailed as failed:
            raise invalid("token_ids", str(failed)) from failed
        except EngineDied as died:
            raise SessionUnavailable(f"the backend died: {died.cause}") from died
        return pb.DetokenizeResponse(text=b"".join(pieces).decode("utf-8", "replace"))

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """See the contract."""
        texts = from_proto.texts_to_embed(request)
        engine = await self._engine(request.model)
        if not engine.facts.capabilities.embed:
            raise UnsupportedFeature("embed", engine.facts.backend)
        with unavailable("texts were turned into vectors"):
            found = await engine.embed(texts, normalize=request.normalize)
        note(texts=len(texts), tokens=sum(found.sizes))
        # A thousand vectors are millions of numbers: in the loop's own thread, all sessions would wait for them.
        return await asyncio.to_thread(to_proto.embeddings, found)
