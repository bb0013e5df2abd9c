"""SessionService over the registry."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from sessiond.daemon.server import from_proto, to_proto
from sessiond.daemon.server.boundary import note
from sessiond.daemon.server.fields import Fields
from sessiond.daemon.server.turns import note_chunk, spent_by
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.scoring import score
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot import Snapshots
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, Report, SuffixStatus, Timings
from sessiond.v1 import session_service_pb2 as pb
from sessiond.v1 import session_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class SessionServicer(session_service_pb2_grpc.SessionServiceServicer):
    """Each method converts, asks, converts back."""

    def __init__(self, registry: SessionRegistry, snapshots: Snapshots) -> None:
        self._registry = registry
        self._snapshots = snapshots

    def _live(self, name: str) -> Session:
        fields = Fields()
        fields.name(name)
        fields.done()
        return self._registry.live(name)

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:
        """See the contract."""
        session, attached = await self._registry.open(from_proto.open_request(request))
        note(session=session.name, attached=attached)
        return pb.OpenSessionResponse(session=to_proto.session(session), attached=attached)

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        """See the contract."""
        return pb.ListSessionsResponse(sessions=[to_proto.session(one) for one in self._registry.all()])

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        """See the contract."""
        return pb.GetSessionResponse(session=to_proto.session(self._known(request.name)))

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: Context
    ) -> pb.CloseSessionResponse:
        """See the contract."""
        self._known(request.name)
        return pb.CloseSessionResponse(session=to_proto.session(await self._registry.close(request.name)))

    async def ForkSession(self, request: pb.ForkSessionRequest, context: Context) -> pb.ForkSessionResponse:
        """See the contract."""
        self._live(request.name)
        session = await self._registry.fork(request.name, from_proto.fork_key(request))
        note(session=session.name)
        return pb.ForkSessionResponse(session=to_proto.session(session))

    async def EnsurePrefix(
        self, request: pb.EnsurePrefixRequest, context: Context
    ) -> pb.EnsurePrefixResponse:
        """See the contract."""
        spent = spent_by(context)
        session = self._live(request.name)
        status = await session.ensure_prefix(from_proto.prefix_request(request.prefix), spent)
        _note_prefix(status)
        return pb.EnsurePrefixResponse(status=to_proto.prefix_status(status), timings=to_proto.timings(spent))

    async def PrefillSuffix(
        self, request: pb.PrefillSuffixRequest, context: Context
    ) -> pb.PrefillSuffixResponse:
        """See the contract."""
        spent = spent_by(context)
        session = self._live(request.name)
        status = await session.prefill_suffix(from_proto.suffix_request(request.suffix), spent)
        _note_suffix(status)
        return pb.PrefillSuffixResponse(
            status=to_proto.suffix_status(status), timings=to_proto.timings(spent)
        )

    async def Decode(
        self, request: pb.DecodeRequest, context: Context
    ) -> AsyncGenerator[pb.DecodeResponse, None]:
        """See the contract."""
        spent = spent_by(context)
        session = self._live(request.name)
        asked = from_proto.decode_request(request.config, session.engine.facts)
        async with contextlib.aclosing(session.decode(asked, spent)) as chunks:
            async for chunk in chunks:
                note_chunk(chunk, spent)
                yield pb.DecodeResponse(chunk=to_proto.chunk(chunk, spent))

    async def Complete(
        self, request: pb.CompleteRequest, context: Context
    ) -> AsyncGenerator[pb.CompleteResponse, None]:
        """See the contract."""
        spent = spent_by(context)
        session = self._live(request.name)
        prefix = from_proto.prefix_request(request.prefix) if request.HasField("prefix") else None
        suffix = from_proto.suffix_request(request.suffix)
        asked = from_proto.decode_request(request.config, session.engine.facts)
        async with contextlib.aclosing(session.complete(prefix, suffix, asked, spent)) as parts:
            async for part in parts:
                yield _part(part, spent)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """See the contract."""
        spent = spent_by(context)
        session = self._live(request.name)
        found = await score(session, from_proto.score_texts(request), spent)
        note(continuations=len(found), scored_tokens=sum(len(one.token_ids) for one in found))
        return pb.ScoreResponse(scores=map(to_proto.scored, found), timings=to_proto.timings(spent))

    async def ExplainContext(
        self, request: pb.ExplainContextRequest, context: Context
    ) -> pb.ExplainContextResponse:
        """See the contract. Also for a session that has ended: its report says so."""
        return pb.ExplainContextResponse(report=to_proto.report(self._report(request.name)))

    async def WatchSession(
        self, request: pb.WatchSessionRequest, context: Context
    ) -> AsyncGenerator[pb.WatchSessionResponse, None]:
        """See the contract."""
        with self._live(request.name).events.watch() as queue:
            while (event := await queue.get()) is not None:
                yield pb.WatchSessionResponse(event=to_proto.event(event))

    async def SaveSnapshot(
        self, request: pb.SaveSnapshotRequest, context: Context
    ) -> pb.SaveSnapshotResponse:
        """See the contract."""
        session, path = self._live(request.name), from_proto.snapshot_path(request.path)
        size = await self._snapshots.save(session, path)
        note(size_bytes=size)
        return pb.SaveSnapshotResponse(size_bytes=size)

    async def RestoreSnapshot(
        self, request: pb.RestoreSnapshotRequest, context: Context
    ) -> pb.RestoreSnapshotResponse:
        """See the contract."""
        session, path = self._live(request.name), from_proto.snapshot_path(request.path)
        restored = await self._snapshots.restore(session, path)
        note(tokens=restored.tokens, prefilled_tokens=restored.computed, apart=restored.apart)
        return pb.RestoreSnapshotResponse(session=to_proto.session(session))

    def _report(self, name: str) -> Report:
        self._known(name)
        return self._registry.report(name)

    def _known(self, name: str) -> Session:
        fields = Fields()
        fields.name(name)
        fields.done()
        return self._registry.get(name)


def _part(part: PrefixStatus | SuffixStatus | Chunk, spent: Timings) -> pb.CompleteResponse:
    match part:
        case PrefixStatus():
            _note_prefix(part)
            return pb.CompleteResponse(prefix_status=to_proto.prefix_status(part))
        case SuffixStatus():
            _note_suffix(part)
            return pb.CompleteResponse(suffix_status=to_proto.suffix_status(part))
        case Chunk():
            note_chunk(part, spent)
            return pb.CompleteResponse(chunk=to_proto.chunk(part, spent))


def _note_prefix(status: PrefixStatus) -> None:
    note(
        prefix_tokens=status.prefix_tokens,
        reused_tokens=status.reused_tokens,
        prefilled_tokens=status.prefilled_tokens,
    )


def _note_suffix(status: SuffixStatus) -> None:
    note(suffix_tokens=status.suffix_tokens, suffix_prefilled_tokens=status.prefilled_tokens)
