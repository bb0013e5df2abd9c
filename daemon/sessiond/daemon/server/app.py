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
from sessiond.daemon.server import not_yet
from sessiond.daemon.server.boundary import Boundary
from sessiond.daemon.server.listen import check_tcp, unix_target
from sessiond.daemon.server.model_servicer import ModelServicer
from sessiond.daemon.server.session_servicer import SessionServicer
from sessiond.daemon.server.workspace_servicer import WorkspaceServicer
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.settings import Settings
from sessiond.v1 import (
    function_service_pb2,
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
            memory_tier=settings.memory_tier_bytes(),
            measurements=Measurements(settings.state_dir / "measured" if settings.measure else None),
            calm=Calm(on_battery=settings.keep_hot_on_battery, most_load=settings.keep_hot_most_load)
            if settings.keep_hot
            else None,
        )
        self._health = health.aio.HealthServicer()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises InvalidInput or SessionUnavailable if the default model cannot be
        loaded.
        """
        server = self._server()
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        server.add_insecure_port(unix_target(self._settings.socket))
        if self._settings.tcp:
            port = server.add_insecure_port(check_tcp(self._settings.tcp, self._settings.token))
            log.info("daemon.tcp", port=port)
        await server.start()
        self._settings.socket.chmod(0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        log.info("daemon.listening", socket=str(self._settings.socket))
        try:
            await self._load_or_stop()
        finally:
            await self._end(server)

    def _server(self) -> grpc.aio.Server:
        most = self._settings.max_message_bytes
        server = grpc.aio.server(
            interceptors=[Boundary(self._settings.token, version("sessiond"))],
            options=[
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", most),
                ("grpc.so_reuseport", 0),  # a second daemon on our TCP port must fail, not share it
            ],
        )
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(SessionServicer(self._registry), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self._registry, self._catalog), server
        )
        workspace_service_pb2_grpc.add_WorkspaceServiceServicer_to_server(
            WorkspaceServicer(self._registry), server
        )
        server.add_generic_rpc_handlers(not_yet.handlers())
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
        await self._say(health_pb2.HealthCheckResponse.SERVING)
        log.info("daemon.serving")
        await stop

    async def _end(self, server: grpc.aio.Server) -> None:
        """Let running turns end, within bounds; refuse new ones."""
        log.info("daemon.stopping", grace_s=self._settings.stop_grace_s)
        await self._health.enter_graceful_shutdown()
        self._registry.end_watches()
        await server.stop(self._settings.stop_grace_s)
        await self._registry.stop()
        log.info("daemon.stopped")

    async def _say(self, status: int) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)
