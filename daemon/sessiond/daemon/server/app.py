"""The daemon from its first breath to its last: listen, load, serve, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from importlib.metadata import version

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.engine.measured import Measurements
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.functions.registry import FunctionRegistry
from sessiond.daemon.functions.shelf import Shelf
from sessiond.daemon.metrics.endpoint import metrics_endpoint
from sessiond.daemon.metrics.meter import Meter
from sessiond.daemon.metrics.turns import TurnObserver
from sessiond.daemon.server import function_proto
from sessiond.daemon.server.boundary import Boundary
from sessiond.daemon.server.function_servicer import FunctionServicer
from sessiond.daemon.server.gate import Limits
from sessiond.daemon.server.listen import unix_target
from sessiond.daemon.server.model_servicer import ModelServicer
from sessiond.daemon.server.session_servicer import SessionServicer
from sessiond.daemon.server.tcp import tcp_port
from sessiond.daemon.server.workspace_servicer import WorkspaceServicer
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.ledger import Ledger
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.snapshot import Snapshots
from sessiond.daemon.settings import Settings
from sessiond.v1 import (
    function_service_pb2,
    function_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)

log = structlog.get_logger("sessiond")

SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"].full_name,
    function_service_pb2.DESCRIPTOR.services_by_name["FunctionService"].full_name,
)

MAX_STREAMS = 256
"""Calls on one connection; further ones wait in the client."""
KEEPALIVE_MS = 30_000
"""How often a silent connection is asked whether it lives, and how long its answer may take."""
REVIVE_S = 5.0
"""How long serving waits for the sessions of the daemon before this one. Others come back later."""


class App:
    """One daemon."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog = ModelCatalog(settings.model, settings.model_dirs)
        self._registry = SessionRegistry(
            self._catalog.resolve,
            settings.max_sessions,
            default_num_ctx=settings.num_ctx,
            memory=KvMemory(settings.kv_memory_mb << 20),
            tiers=settings.tiers(),
            measurements=Measurements(settings.state_dir / "measured" if settings.measure else None),
            calm=Calm(on_battery=settings.keep_hot_on_battery, most_load=settings.keep_hot_most_load)
            if settings.keep_hot
            else None,
            ledger=Ledger(settings.state_dir / "sessions.db"),
        )
        self._functions = FunctionRegistry(
            self._registry,
            Shelf(settings.state_dir / "functions"),
            function_proto.decoding,
            function_proto.read,
        )
        self._meter = Meter(self._registry, version("sessiond"))
        self.boundary = Boundary(settings.token, version("sessiond"), _limits(settings))
        self._health = health.aio.HealthServicer()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises InvalidInput or SessionUnavailable if the default model cannot be
        loaded.
        """
        server = self._server()
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        server.add_insecure_port(unix_target(self._settings.socket))
        tcp = tcp_port(self._settings)
        if tcp is not None:
            log.info("daemon.tcp", port=tcp.open(server), tls=tcp.credentials is not None)
        self._registry.recall()  # before anybody can open what is about to come back
        self._functions.recall()
        await server.start()
        self._settings.socket.chmod(0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        log.info("daemon.listening", socket=str(self._settings.socket))
        try:
            async with metrics_endpoint(self._settings.metrics, self._settings.token, self._meter.expose):
                await self._load_or_stop()
        finally:
            await self._end(server)

    def _server(self) -> grpc.aio.Server:
        settings = self._settings
        most, stall_ms = settings.max_message_bytes, int(settings.stall_timeout_s * 1e3)
        server = grpc.aio.server(
            interceptors=[
                self.boundary,
                TurnObserver(self._meter.turns),
            ],
            options=[
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", most),
                ("grpc.so_reuseport", 0),  # a second daemon on our TCP port must fail, not share it
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.server_handshake_timeout_ms", stall_ms),
                # A client whose machine is gone says nothing more, and would be waited for until it does.
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(
            SessionServicer(self._registry, Snapshots(settings.state_dir / "snapshot.key")), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self._registry, self._catalog, self._meter, settings), server
        )
        workspace_service_pb2_grpc.add_WorkspaceServiceServicer_to_server(
            WorkspaceServicer(self._registry), server
        )
        function_service_pb2_grpc.add_FunctionServiceServicer_to_server(
            FunctionServicer(self._functions), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    async def _load_or_stop(self) -> None:
        """Load the default model, say that we serve, and wait for the end."""
        stop = asyncio.create_task(self._stop.wait())
        load = asyncio.create_task(self._registry.engine(""))
        await asyncio.wait({stop, load}, return_when=asyncio.FIRST_COMPLETED)
        if not load.done():
            load.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await load
            return
        stop_now = load.exception()
        if stop_now is not None:
            stop.cancel()
            raise stop_now
        first = asyncio.create_task(self._registry.revive(loaded=True))
        await asyncio.wait({stop, first}, timeout=REVIVE_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():
            await self._say(health_pb2.HealthCheckResponse.SERVING)
            log.info("daemon.serving")
        others = asyncio.create_task(self._revive_others(first))
        await stop
        for task in (first, others):
            task.cancel()
        await asyncio.gather(first, others, return_exceptions=True)

    async def _revive_others(self, first: asyncio.Task[None]) -> None:
        """Those whose models have to be loaded, and whatever could not be made at the first attempt."""
        await asyncio.wait({first})
        await self._registry.revive()
        await self._functions.stand_up()

    async def _end(self, server: grpc.aio.Server) -> None:
        """Let running turns end, within bounds; refuse new ones."""
        log.info("daemon.stopping", grace_s=self._settings.stop_grace_s)
        await self._health.enter_graceful_shutdown()
        self._registry.begin_to_end()
        await server.stop(self._settings.stop_grace_s)
        await self._registry.stop()
        self._functions.close()
        log.info("daemon.stopped")

    async def _say(self, status: int) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)


def _limits(settings: Settings) -> Limits:
    return Limits(
        calls=settings.max_calls,
        waiting=settings.max_waiting_turns,
        waiting_each=settings.max_waiting_turns_each,
        stall_s=settings.stall_timeout_s,
    )
