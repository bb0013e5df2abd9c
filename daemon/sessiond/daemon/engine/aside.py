"""Models that are not loaded any more, since they killed their engine while it loaded them or in its first decode.

A native fault over a file comes again with the same file. What is set aside is one way of loading it: a setting of one
client must not take a model from all others. It comes back when a file of it changes, or with the next daemon.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.process import EngineDied
from sessiond.v1.errors import SessionUnavailable

log = structlog.get_logger(__name__)

DEATHS = 2
"""After so many it is set aside."""
REMEMBERED = 256
"""Ways of loading that are known to have killed: clients name them."""

Stamp: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]
"""Device, inode, size and time of change of each file; None for what is no file that can be looked at."""


@dataclass(frozen=True, slots=True)
class _Strikes:
    """What a way of loading did."""

    stamp: Stamp
    count: int
    cause: str


def stamp_of(key: EngineKey) -> Stamp:
    """The files of a model as they are now. Asks the file system."""
    return tuple(_stamp(path) for path in (key.model, *(lora.path for lora in key.settings.loras)))


class SetAside:
    """In the daemon's event loop."""

    def __init__(self) -> None:
        self._strikes: dict[EngineKey, _Strikes] = {}

    def check(self, key: EngineKey, stamp: Stamp) -> None:
        """Raises SessionUnavailable for what is set aside."""
        known = self._strikes.get(key)
        if known is not None and known.stamp != stamp:
            del self._strikes[key]
        elif known is not None and known.count >= DEATHS:
            raise SessionUnavailable(
                f"this model is set aside until its file changes or the daemon restarts: loading it killed the engine "
                f"{known.count} times, the last time so: {known.cause}"
            )

    def died(self, key: EngineKey, stamp: Stamp, died: EngineDied) -> None:
        """The engine died before it stood. A kill from outside is no file's fault."""
        if died.is_from_outside:
            return
        known = self._strikes.pop(key, None)
        count = known.count + 1 if known is not None and known.stamp == stamp else 1
        self._strikes[key] = _Strikes(stamp, count, died.cause)
        if len(self._strikes) > REMEMBERED:
            del self._strikes[next(iter(self._strikes))]
        if count >= DEATHS:
            log.error("model.set_aside", model=key.model, deaths=count, cause=died.cause)

    def stood(self, key: EngineKey) -> None:
        """It was loaded, and computed."""
        self._strikes.pop(key, None)


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    try:
        told = Path(path).stat()
    except (OSError, ValueError):
        return None
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns
