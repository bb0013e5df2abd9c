"""The engines of the daemon: one for each model and way of loading it, started when first asked for.

A dead engine is forgotten, and the next call starts another, unless too many died in a row (`deaths.py`). If a fault ended
it before it stood, that is, in its first decode, the next one runs with the extra buffer types off: that is what a
miscompiled kernel looks like. If that dies too, the model is set aside (`aside.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from weakref import WeakValueDictionary

import structlog

from sessiond.daemon.engine.aside import SetAside, Stamp, stamp_of
from sessiond.daemon.engine.backends import adapter_for
from sessiond.daemon.engine.deaths import Deaths
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.identity import digest_of
from sessiond.daemon.engine.measured import Measurements
from sessiond.daemon.engine.process import EngineDied, EngineFailed, EngineProcess
from sessiond.daemon.engine.seat import Seat
from sessiond.v1.errors import SessionUnavailable, invalid

log = structlog.get_logger(__name__)

FLUSH_S = 3.0
"""How long an engine may write what is not on the disk yet before it ends."""

MAX_ENGINES = 8
"""Each is a process that stays to the end: a client that asks for one after another would fill the machine."""

REMEMBERED = 256
"""Engines whose deaths are counted: clients name them."""


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
        self.on_next: Callable[[Seat], None] = lambda _seat: None
        """Hears when a seat goes on with another engine."""
        self.on_other: Callable[[Seat], None] = lambda _seat: None
        """Hears when a seat cannot go on, since its engine's place was taken by one with another model."""
        self.stood_on: Callable[[], Collection[EngineKey]] = lambda: ()
        """The engines on which somebody stands, whether or not they are loaded now: their places are theirs."""
        self.tiers = tiers or Tiers()
        """What each engine may keep beside its cells. Its disk is a folder in `tiers.folder`."""
        self._engines: dict[EngineKey, Engine] = {}
        self._loading: dict[EngineKey, asyncio.Task[Engine]] = {}
        self._careful: set[EngineKey] = set()
        """Engines that died in their first decode."""
        self._deaths: dict[EngineKey, Deaths] = {}
        self._aside = SetAside()
        self._seats: WeakValueDictionary[EngineKey, Seat] = WeakValueDictionary()
        """As long as somebody stands there: a dead engine keeps its texts' tokens."""
        self._stopped = False

    def loaded(self) -> list[Engine]:
        """All engines that stand."""
        return list(self._engines.values())

    def is_loaded(self, key: EngineKey) -> bool:
        """Whether this engine stands."""
        return key in self._engines

    def waiting(self) -> int:
        """How many engines died so often that they have to wait before they are started again."""
        return sum(deaths.wait_s > 0 for deaths in self._deaths.values())

    async def get(self, key: EngineKey) -> Engine:
        """The engine, loaded. A cancelled caller leaves the load running for the next one.

        Raises InvalidInput for a model or setting that cannot be, SessionUnavailable if the backend dies or must wait.
        """
        found = self._engines.get(key)
        if found is not None and found.process.ended is not None:
            self._forget(key, found, found.process.ended)
        elif found is not None:
            return found
        task = self._loading.get(key)
        if task is None:
            self._check_may_start(key)
            task = self._loading[key] = asyncio.create_task(self._load(key), name=f"load {key.model}")
            task.add_done_callback(lambda _task: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def seat(self, key: EngineKey) -> Seat:
        """Where to stand on this engine, over its deaths. Raises as `get`."""
        engine = await self.get(key)
        seat = self._seats.get(key)
        if seat is None or not seat.takes(engine):
            seat = self._seats[key] = Seat(key, engine, self.get, self._next)
        return seat

    def _next(self, seat: Seat) -> None:
        self.on_next(seat)

    def _check_may_start(self, key: EngineKey) -> None:
        """Raises SessionUnavailable if this engine must not be started now."""
        if self._stopped:
            raise SessionUnavailable("the daemon is stopping")
        deaths = self._deaths.get(key)
        if deaths is not None and deaths.wait_s:
            raise SessionUnavailable(deaths.sentence())
        if len({*self._engines, *self._loading, *self.stood_on()} - {key}) >= MAX_ENGINES:
            raise SessionUnavailable(
                f"{MAX_ENGINES} models, or ways of loading one, are in memory or about to come back there, "
                f"which is the limit"
            )

    async def stop(self) -> None:
        """End all engines, and start none any more."""
        self._stopped = True
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
        stamp = await asyncio.to_thread(stamp_of, key)
        self._aside.check(key, stamp)
        try:
            engine = await self._try(key, adapter)
        except EngineDied as died:
            if not self._is_worth_another_try(key, stamp, died):
                raise _in_words(died) from died
            try:
                engine = await self._try(key, adapter)
            except EngineDied as again:
                self._died_early(key, stamp, again)
                raise _in_words(again) from again
        self._stands(key, engine)
        return engine

    def _stands(self, key: EngineKey, engine: Engine) -> None:
        self._aside.stood(key)
        if key in self._deaths:
            self._deaths[key].stood()
        self._engines[key] = engine
        self._on_start(engine)
        # Here, and not where somebody asks for it: who stands on it has to hear of it, and of its death, also if this one
        # was started for others, or dies before they had their turn.
        seat = self._seats.get(key)
        if seat is not None and not seat.takes(engine):
            del self._seats[key]
            self.on_other(seat)
        engine.process.on_end = lambda died: self._forget(key, engine, died)
        if engine.process.ended is not None:
            self._forget(key, engine, engine.process.ended)

    def _is_worth_another_try(self, key: EngineKey, stamp: Stamp, died: EngineDied) -> bool:
        """An engine died before it stood. Whether the next one may be started at once."""
        self._died_early(key, stamp, died)
        if died.signal_number is None or key in self._careful:
            return False
        if not died.is_from_outside:
            log.warning(
                "engine.died_in_first_decode",
                model=key.model,
                cause=died.cause,
                next="extra buffer types off",
            )
            self._careful.add(key)
        return True

    def _died_early(self, key: EngineKey, stamp: Stamp, died: EngineDied) -> None:
        self._count(key, died)
        self._aside.died(key, stamp, died)

    def _count(self, key: EngineKey, died: EngineDied) -> None:
        """One more death in the row of this engine."""
        self._deaths = {each: deaths for each, deaths in self._deaths.items() if not deaths.is_past}
        # The latest last, so that the bound takes those that nobody asked for any more.
        deaths = self._deaths.pop(key, Deaths())
        self._deaths[key] = deaths
        deaths.died(died.cause)
        if len(self._deaths) > REMEMBERED:
            del self._deaths[next(iter(self._deaths))]
        if deaths.wait_s:
            log.error("engine.waits", model=key.model, deaths=deaths.row, wait_s=deaths.wait_s)

    async def _try(self, key: EngineKey, adapter: str) -> Engine:
        settings = replace(key.settings, extra_buffers=False) if key in self._careful else key.settings
        try:
            process = await EngineProcess.start()
        except OSError as error:
            raise SessionUnavailable(f"no engine can be started: {error.strerror or error}") from error
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
            self._count(key, died)
            deaths = self._deaths[key].row
            log.error("engine.died", model=key.model, pid=engine.process.pid, cause=died.cause, deaths=deaths)
            self._on_death(engine, died)


def _in_words(died: EngineDied) -> SessionUnavailable:
    return SessionUnavailable(f"the backend died while it loaded: {died.cause}")


async def _end(engine: Engine) -> None:
    """Have an engine write what is not on the disk yet, and end it."""
    with contextlib.suppress(EngineDied, EngineFailed, TimeoutError):
        async with asyncio.timeout(FLUSH_S + 1.0):
            await engine.flush(FLUSH_S)
    await engine.process.stop()
