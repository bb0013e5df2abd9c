"""What was measured of models on this machine, remembered in the state folder so that it is measured once.

A file holds what one model did under one build on one machine. It is advice, never trusted: whatever is wrong with it,
it is measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from sessiond.adapters.base import ModelFacts, ModelSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.engine.tune import choose
from sessiond.daemon.machine import cores

log = structlog.get_logger(__name__)

VERSION = 2
"""Of the files and of the way of measuring: another one is measured anew."""
MAX_FILE = 1 << 20
"""Bytes. A longer file is none of ours."""


class _File(msgspec.Struct, frozen=True):
    identity: list[str]
    measured: wire.Measured


class Measurements:
    """See the module. Without a folder nothing is measured, and the adapter's own choices hold."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    async def apply(self, engine: Engine, loading: ModelSettings) -> None:
        """Let the engine run as was measured to be the fastest, measuring first if need be. Raises EngineDied."""
        if self._folder is None:
            return
        identity = _identity(engine.facts, loading)
        path = self._folder / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.json"
        measured = _read(path, identity)
        if measured is None:
            try:
                measured = await engine.measure()
            except EngineFailed as failed:
                log.warning("model.not_measured", model=engine.model, error=str(failed))
                return
            if measured.trials:
                _write(path, _File(identity, measured))
        engine.measured = measured
        chosen = choose(measured)
        if chosen is None:
            log.info("model.not_measured", model=engine.model, busy=measured.busy)
            return
        engine.defaults = replace(
            engine.defaults,
            flash_attn=chosen.flash_attn,
            num_ubatch=min(chosen.num_ubatch, engine.defaults.num_batch),
            num_threads=chosen.num_threads,
            num_threads_batch=chosen.num_threads_batch,
        )
        log.info("model.measured", model=engine.model, **_words(engine))


def _words(engine: Engine) -> dict[str, object]:
    chosen = engine.defaults
    return {
        "flash_attn": chosen.flash_attn,
        "num_ubatch": chosen.num_ubatch,
        "num_threads": chosen.num_threads,
        "num_threads_batch": chosen.num_threads_batch,
    }


def _identity(facts: ModelFacts, loading: ModelSettings) -> list[str]:
    """All that the figures depend on."""
    return [
        str(VERSION),
        _processor(),
        str(cores()),
        facts.backend_version,
        facts.model_digest,
        repr(replace(loading, loras=())),
    ]


def _processor() -> str:
    """The name of the machine's processor, and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    return f"{told.get('model name', platform.machine())} {told.get('flags', '')}"


def _read(path: Path, identity: list[str]) -> wire.Measured | None:
    try:
        if path.stat().st_size > MAX_FILE:
            return None
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    measured = file.measured
    sound = measured.bulk_tokens > 0 and bool(measured.trials)
    sound = sound and all(
        trial.laps
        and len(trial.laps) == len(measured.trials[0].laps)
        and min(min(lap.bulk_ms, lap.small_ms, lap.single_ms) for lap in trial.laps) > 0
        and 0 < trial.settings.num_ubatch <= 1 << 16
        and 0 < trial.settings.num_threads <= 1 << 12
        and 0 < trial.settings.num_threads_batch <= 1 << 12
        for trial in measured.trials
    )
    return measured if sound and file.identity == identity else None


def _write(path: Path, file: _File) -> None:
    """Whole or not at all. A state folder that cannot be written costs a measurement, no more."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(msgspec.json.encode(file))
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        log.warning("measurements.not_kept", error=str(error))
