"""The engines of the daemon: one for each model and way of loading it, started when first asked for.

A dead engine is forgotten, and the next call starts another. If a signal ended it before it stood, that is, in its
first decode, the next one runs with the extra buffer types off: that is what a miscompiled kernel looks like.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import structlog

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine.backends import adapter_for
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.identity import digest_of
from sessiond.daemon.engine.measured import Measurements
from sessiond.daemon.engine.process import EngineDied, EngineFailed, EngineProcess
from sessiond.v1.errors import SessionUnavailable, invalid

log = structlog.get_logger(__name__)

FLUSH_S = 3.0
"""How long an engine may write what is not on the disk yet before it ends."""

MAX_ENGINES = 8
"""Each is a process that stays to the end: a client that asks for one after another would fill the machine."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What makes an engine another one."""

    model: str
    settings: ModelSettings


class EnginePool:
    """Engines by key."""

    def __init__(
        self,
        on_start: Callable[[Engine], None],
        on_death: Callable[[Engine, EngineDied], None],
        tiers: Tiers | None = None,
        measurements: Measurements | None = None,
    ) -> None:
        self._measurements = measurements or Measurements()
        self._on_start = on_start
        self._on_death = on_death
        self.tiers = tiers or Tiers()
        """What each engine may keep beside its cells. Its disk is a folder in `tiers.folder`."""
        self._engines: dict[EngineKey, Engine] = {}
        self._loading: dict[EngineKey, asyncio.Task[Engine]] = {}
        self._careful: set[EngineKey] = set()
        """Engines that died in their first decode."""

    def loaded(self) -> list[Engine]:
        """All engines that stand."""
        return list(self._engines.values())

    def is_loaded(self, key: EngineKey) -> bool:
        """Whether this engine stands."""
        return key in self._engines

    async def get(self, key: EngineKey) -> Engine:
        """The engine, loaded. A cancelled caller leaves the load running for the next one.

        Raises InvalidInput for a model or setting that cannot be, SessionUnavailable if the backend dies.
        """
        found = self._engines.get(key)
        if found is not None:
            return found
        task = self._loading.get(key)
        if task is None:
            if len(self._engines) + len(self._loading) >= MAX_ENGINES:
                raise SessionUnavailable(
                    f"{MAX_ENGINES} models, or ways of loading one, are in memory, which is the limit"
                )
            task = self._loading[key] = asyncio.create_task(self._load(key), name=f"load {key.model}")
            task.add_done_callback(lambda _task: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """End all engines."""
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        engines, self._engines = self.loaded(), {}
        await asyncio.gather(*(_end(engine) for engine in engines))

    def _tiers_of(self, key: EngineKey) -> Tiers:
        folder = self.tiers.folder
        if folder is None:
            return self.tiers
        name = digest_of([key.model, asdict(key.settings)])[:32]
        return replace(self.tiers, folder=folder / name)

    async def _load(self, key: EngineKey) -> Engine:
        adapter = adapter_for(key.model)
        if adapter is None:
            raise invalid("model", f"no installed backend takes {key.model!r}")
        try:
            engine = await self._try(key, adapter)
        except EngineDied as died:
            if died.signal_number is None or key in self._careful:
                raise SessionUnavailable(f"the backend died while it loaded: {died.cause}") from died
            log.warning(
                "engine.died_in_first_decode",
                model=key.model,
                cause=died.cause,
                next="extra buffer types off",
            )
            self._careful.add(key)
            try:
                engine = await self._try(key, adapter)
            except EngineDied as again:
                raise SessionUnavailable(f"the backend died while it loaded: {again.cause}") from again
        self._engines[key] = engine
        self._on_start(engine)
        engine.process.on_end = lambda died: self._forget(key, engine, died)
        if engine.process.ended is not None:
            self._forget(key, engine, engine.process.ended)
        return engine

    async def _try(self, key: EngineKey, adapter: str) -> Engine:
        settings = replace(key.settings, extra_buffers=False) if key in self._careful else key.settings
        process = await EngineProcess.start()
        log.info("engine.starting", model=key.model, pid=process.pid, extra_buffers=settings.extra_buffers)
        try:
            engine = await Engine.load(
                process, adapter, key.model, settings, lambda _share: None, self._tiers_of(key)
            )
            await self._measurements.apply(engine, settings)
        except EngineFailed as failed:
            await process.stop()
            field = f"config.{failed.field}" if failed.kind == "setting" else "model"
            raise invalid(field, str(failed)) from failed
        except asyncio.CancelledError:
            await process.stop(patience=0.0)
            raise
        log.info("engine.ready", model=key.model, pid=process.pid, backend=engine.facts.backend_version)
        return engine

    def _forget(self, key: EngineKey, engine: Engine, died: EngineDied) -> None:
        if self._engines.get(key) is engine:
            del self._engines[key]
            log.error("engine.died", model=key.model, pid=engine.process.pid, cause=died.cause)
            self._on_death(engine, died)


async def _end(engine: Engine) -> None:
    """Have an engine write what is not on the disk yet, and end it."""
    with contextlib.suppress(EngineDied, EngineFailed, TimeoutError):
        async with asyncio.timeout(FLUSH_S + 1.0):
            await engine.flush(FLUSH_S)
    await engine.process.stop()
