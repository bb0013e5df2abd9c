"""All sessions of the daemon, by name and by what makes two opens the same."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.foresight import Foresight
from sessiond.daemon.engine.measured import Measurements
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.engine.pool import EnginePool
from sessiond.daemon.engine.process import EngineDied
from sessiond.daemon.engine.seat import MODEL_CHANGED, Seat
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.content import Content, common
from sessiond.daemon.sessions.events import engine_restarted
from sessiond.daemon.sessions.failures import unavailable
from sessiond.daemon.sessions.ground import Ground, take_ground
from sessiond.daemon.sessions.ledger import Ledger, Remembered
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.opening import drop
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.statuses import Report
from sessiond.daemon.sessions.tally import Tally
from sessiond.daemon.sessions.workspaces import Workspaces
from sessiond.v1.errors import (
    SessiondError,
    SessionFatal,
    SessionNotFound,
    SessionUnavailable,
    UnsupportedFeature,
    invalid,
)

log = structlog.get_logger(__name__)

STOP_S = 2.0
"""How long what runs in the background may take to end when all ends."""
REMEMBERED = 256
"""Closed and dead sessions that still answer to their name, so that a client learns what became of its own."""


class SessionRegistry:
    """Sessions. A client that went away finds its own again by opening the same."""

    def __init__(
        self,
        resolve_model: Callable[[str], Awaitable[str]],
        max_sessions: int,
        default_num_ctx: int = 0,
        memory: KvMemory | None = None,
        tiers: Tiers | None = None,
        measurements: Measurements | None = None,
        calm: Calm | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._resolve_model = resolve_model
        self._max_sessions = max_sessions
        self._default_num_ctx = default_num_ctx
        self._sessions: dict[str, Session] = {}
        self._opening: dict[OpenRequest, asyncio.Lock] = {}
        self._wanted: Counter[OpenRequest] = Counter()
        self._making = 0
        """Sessions that are being opened."""
        self._dropping: set[asyncio.Task[None]] = set()
        self._by_request: dict[OpenRequest, Session] = {}
        self._ledger = ledger or Ledger()
        self._returning: dict[str, Remembered] = {}
        """Sessions of the daemon before this one that are not made again yet, by name."""
        self.memory = memory or KvMemory()
        self.tally = Tally()
        self.workspaces = Workspaces(calm, self.tally.heard)
        self.pool = EnginePool(self._engine_stands, self._engine_died, tiers, measurements)
        self.pool.on_next = self._engine_restarted
        self.pool.on_other = self._model_changed
        self.pool.stood_on = lambda: {seat.key for seat in self._seats()}
        self.others_on: Callable[[], Iterable[Seat]] = lambda: ()
        """The seats of what stands here beside sessions: functions."""
        self._is_ending = False
        self.foresight = Foresight(self.memory, self.pool.loaded, self.pool.tiers.memory)

    async def engine(self, model: str, config: SessionConfig | None = None) -> Engine:
        """The engine of a model, loaded if need be. Raises InvalidInput, SessionUnavailable."""
        return await self.pool.get(await self._engine_key(model, config or SessionConfig()))

    async def _engine_key(self, model: str, config: SessionConfig) -> EngineKey:
        return EngineKey(await self._resolve_model(model), config.model)

    async def is_loaded(self, request: OpenRequest) -> bool:
        """Whether the engine of a request stands. Raises InvalidInput, SessionUnavailable."""
        return self.pool.is_loaded(await self._engine_key(request.model, request.config))

    def recall(self) -> None:
        """Read which sessions there were: from now on their names are known, and `revive` makes them. Of two that were opened
        alike, the newer one had taken the place of the other.
        """
        newest: dict[OpenRequest, Remembered] = {}
        for known in self._ledger.load():
            older = newest.get(known.opened)
            if older is not None:
                self._ledger.forget(older.id)
            newest[known.opened] = known
        self._returning = {known.name: known for known in newest.values()}

    async def revive(self, *, loaded: bool = False) -> None:
        """Make the sessions of the daemon before this one again, under their names; only those whose engine is `loaded`, if
        that is said. Their prefixes are what the files make now; the KV is brought back when it is first of use. One that can
        never be made is forgotten; one that cannot be made now is made when somebody opens it.
        """
        for known in list(self._returning.values()):
            key = EngineKey(known.opened.model, known.opened.config.model)
            if loaded and not self.pool.is_loaded(key):
                continue
            try:
                async with self._alone(known.opened):
                    if known.name in self._returning:
                        await self._return(known)
            except (SessionUnavailable, SessionFatal) as passing:
                log.warning("session.not_revived_yet", session=known.name, error=str(passing))
            except SessiondError as error:
                log.warning("session.not_revived", session=known.name, error=str(error))
                self._returning.pop(known.name, None)
                self._ledger.forget(known.id)
            except Exception as fault:  # noqa: BLE001 - one session must not keep the others, or the daemon, from coming back
                log.error("session.not_revived_yet", session=known.name, error=repr(fault))

    async def _return(self, known: Remembered) -> Session:
        async def again() -> Session:
            session = await self._make(known.opened, known.id)
            session.created_ms = known.created * 1e3
            try:
                if known.prefix is not None:
                    with unavailable("a session was made again"):
                        await session.begin_from(known.prefix)
            except BaseException:
                await session.close()
                raise
            return session

        session = await self._made(known.opened, again, known)
        self._returning.pop(known.name, None)
        return session

    async def open(self, asked: OpenRequest) -> tuple[Session, bool]:
        """A session, and whether it was live already."""
        request = OpenRequest(
            asked.workspace_root, await self._resolve_model(asked.model), asked.key, asked.config
        )
        # One at a time for each identity, or two opens at once would make two sessions.
        async with self._alone(request):
            live = self._by_request.get(request)
            if live is not None and live.state in ("ready", "busy"):
                return live, True
            known = next((each for each in self._returning.values() if each.opened == request), None)
            if known is not None:
                return await self._return(known), True
            return await self._made(request, lambda: self._make(request)), False

    async def fork(self, name: str, key: str) -> Session:
        """A new session that is what another one is, without computing anything. Raises SessionBusy."""
        parent = self.live(name)
        if not parent.engine.facts.capabilities.fork:
            raise UnsupportedFeature("fork", parent.engine.facts.backend)
        opened = next((r for r, s in self._by_request.items() if s is parent), None)
        asked = opened or OpenRequest(parent.workspace_root, parent.engine.model, "", parent.config)
        request = replace(asked, key=key or f"fork {secrets.token_hex(8)}")
        async with self._alone(request):
            if request in self._by_request:
                raise invalid("key", "a session of this workspace, model and config has this key")
            async with parent.still() as content:
                child = await self._made(request, lambda: self._forked(parent, content, key))
                self._ledger.fork(parent.id, child.id)
                return child

    async def _made(
        self,
        request: OpenRequest,
        make: Callable[[], Awaitable[Session]],
        known: Remembered | None = None,
    ) -> Session:
        """A new session, within the limit, and known by its name and request."""
        if len(self._live()) + self._making >= self._max_sessions:
            raise SessionUnavailable(f"{self._max_sessions} sessions are open, which is the limit")
        self._making += 1
        try:
            session = await make()
        finally:
            self._making -= 1
        self._sessions[session.name] = session
        before = self._by_request.get(request)
        if before is not None:
            self._ledger.forget(before.id)  # it has died: this one takes its place
        self._by_request[request] = session
        self._ledger.remember(known or Remembered(session.id, session.created_ms / 1e3, request))
        session.on_prefix = lambda prefix: self._ledger.moved(session.id, prefix)
        self._forget_the_oldest()
        return session

    @contextlib.asynccontextmanager
    async def _alone(self, request: OpenRequest) -> AsyncGenerator[None, None]:
        """Hold the lock of an identity; it goes with the last who wants it."""
        lock = self._opening.setdefault(request, asyncio.Lock())
        self._wanted[request] += 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[request] -= 1
            if not self._wanted[request]:
                del self._opening[request], self._wanted[request]

    async def _make(self, request: OpenRequest, session_id: str = "") -> Session:
        session_id = session_id or secrets.token_hex(8)
        ground = await self.ground(request, session_id, "a session was opened")
        workspace = self.workspaces.of(request.workspace_root) if request.workspace_root else None
        session = Session(session_id, ground.home, ground.identity, ground.config, workspace, request.key)
        log.info(
            "session.opened",
            session=session.name,
            model=session.engine.model,
            num_ctx=ground.config.context.num_ctx,
        )
        return session

    async def ground(
        self, request: OpenRequest, branch: str, meanwhile: str, *, yields: bool = False
    ) -> Ground:
        """Where something of this request may stand, with a branch of this name open there, which `yields` its cells or not.
        `meanwhile` says what is done.

        Raises InvalidInput, UnsupportedFeature, ManifestMismatch, SessionUnavailable.
        """
        seat = await self.pool.seat(await self._engine_key(request.model, request.config))
        if not seat.facts.capabilities.session:
            raise UnsupportedFeature("session", seat.facts.backend)
        if request.config.context.deterministic and not seat.facts.capabilities.deterministic:
            raise UnsupportedFeature("deterministic", seat.facts.backend)
        async with self.dropping_what_fails(seat, branch):
            with unavailable(meanwhile):
                return await seat.outliving(
                    lambda engine: self._grounded(seat, engine, branch, request, yields=yields)
                )

    @contextlib.asynccontextmanager
    async def dropping_what_fails(self, seat: Seat, branch: str) -> AsyncGenerator[None, None]:
        """Close a branch that may have been opened, if the body does not come to its end."""
        try:
            yield
        except BaseException:
            # Also after a cancel: the engine may have opened the branch, and nobody would ever close it.
            dropping = asyncio.create_task(drop(seat.engine, branch))
            self._dropping.add(dropping)
            dropping.add_done_callback(self._dropping.discard)
            raise

    async def _grounded(
        self, seat: Seat, engine: Engine, branch: str, request: OpenRequest, *, yields: bool
    ) -> Ground:
        settings = engine.filled(request.config.context, self._default_num_ctx)
        ground = await take_ground(self.memory, seat, engine, branch, request, settings, yields=yields)
        if seat.engine is not engine:  # it died just now, and somebody was quicker to notice
            raise engine.process.ended or EngineDied("the engine was replaced")
        return ground

    async def _forked(self, parent: Session, content: Content, key: str) -> Session:
        session_id = secrets.token_hex(8)
        async with self.dropping_what_fails(parent.home.seat, session_id):
            with unavailable("a session was forked"):
                await parent.branch.fork(session_id)
        # Asked for anew: its parent may have been closed meanwhile, and the workspace forgotten.
        workspace = self.workspaces.of(parent.workspace_root) if parent.workspace_root else None
        session = Session(session_id, parent.home, parent.identity, parent.config, workspace, key)
        session.begin_as(content, parent)
        log.info("session.forked", session=session.name, parent=parent.name)
        return session

    def report(self, name: str) -> Report:
        """All there is to say of a session's context, whatever its state. Raises SessionNotFound."""
        session = self.get(name)
        return session.report(max((_shared(session, other) for other in self._live()), default=0))

    def all(self) -> list[Session]:
        """Every session that is not closed, oldest first."""
        return [session for session in self._sessions.values() if session.state != "closed"]

    def get(self, name: str) -> Session:
        """The session of this name, whatever its state. Raises SessionNotFound."""
        found = self._sessions.get(name)
        if found is None:
            if name in self._returning:
                raise SessionUnavailable(f"{name} is being made again after a restart")
            raise SessionNotFound(name)
        return found

    def live(self, name: str) -> Session:
        """The session of this name, to do something with. Raises SessionNotFound, SessionClosed, SessionFatal."""
        session = self.get(name)
        session.check_alive()
        return session

    async def close(self, name: str) -> Session:
        """Close a session. Raises SessionNotFound, SessionClosed."""
        session = self.get(name)
        self._by_request = {r: s for r, s in self._by_request.items() if s is not session}
        self._ledger.forget(session.id)
        await session.close()
        log.info("session.closed", session=name)
        return session

    def begin_to_end(self) -> None:
        """Tell all who watch that nothing more will come, and start an engine only for a turn that still runs."""
        self._is_ending = True
        for session in self._sessions.values():
            session.events.end()

    async def stop(self) -> None:
        """End all engines, and with them all sessions."""
        self._is_ending = True
        with contextlib.suppress(TimeoutError):  # an engine that does not answer is ended all the same
            async with asyncio.timeout(STOP_S):
                await self.workspaces.stop()
        await self.foresight.stop()
        await self.pool.stop()
        await self.workspaces.ended()
        await self._ledger.close()

    def _live(self) -> list[Session]:
        return [session for session in self._sessions.values() if session.state in ("ready", "busy")]

    def _seats(self) -> list[Seat]:
        """Whatever stands on them."""
        return [*(session.home.seat for session in self._live()), *self.others_on()]

    def _engine_stands(self, engine: Engine) -> None:
        self.tally.engine_stands(engine.model)
        engine.on_arena = lambda state: self.memory.heard(engine, state)

    def _engine_died(self, engine: Engine, died: EngineDied) -> None:
        self.tally.engine_died(engine.model)
        self.memory.lost(engine)
        for session in self._sessions.values():
            if session.engine is engine:
                session.engine_died(died.cause)
        if self._is_ending:
            return
        for seat in {seat for seat in self._seats() if seat.engine is engine}:
            seat.start_again()

    def _engine_restarted(self, seat: Seat) -> None:
        for session in self._live():
            if session.home.seat is seat:
                session.events.tell(engine_restarted())
        self.workspaces.engine_restarted(seat)

    def _model_changed(self, seat: Seat) -> None:
        for session in self._live():
            if session.home.seat is seat:
                session.lose(MODEL_CHANGED)

    def _forget_the_oldest(self) -> None:
        ended = [name for name, session in self._sessions.items() if session.state in ("closed", "fatal")]
        for name in ended[: max(0, len(ended) - REMEMBERED)]:
            gone = self._sessions.pop(name)
            self._by_request = {r: s for r, s in self._by_request.items() if s is not gone}


def _shared(one: Session, other: Session) -> int:
    """How many of its resident tokens the other one uses too."""
    if other is one or (other.engine, other.home.arena) != (one.engine, one.home.arena):
        return 0
    return min(one.resident_tokens, other.resident_tokens, common(one.tokens, other.tokens))
