"""Whether the machine can spare what keep-hot takes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import psutil
import structlog

log = structlog.get_logger(__name__)

LOOKS_EVERY_S = 5.0
"""How often it is asked again while it cannot."""


@dataclass(frozen=True, slots=True)
class Calm:
    """What keep-hot has to wait for. By default nothing: it yields to whoever asks anyway."""

    on_battery: bool = True
    """Whether it may run while the machine runs on its battery."""
    most_load: float = 0.0
    """The load average of one minute, for each CPU, above which it waits; 0 is no limit."""

    async def wait(self) -> None:
        """Return when keep-hot may run."""
        if why := self.disturbed():
            log.info("keep_hot.waits", why=why)
        while self.disturbed():  # noqa: ASYNC110 - nobody tells of a battery or of load
            await asyncio.sleep(LOOKS_EVERY_S)

    def disturbed(self) -> str:
        """Why it must wait; empty if it need not."""
        if not self.on_battery and _on_battery():
            return "the machine runs on its battery"
        if self.most_load and os.getloadavg()[0] > self.most_load * (os.cpu_count() or 1):
            return "the machine is busy"
        return ""


def _on_battery() -> bool:
    battery = psutil.sensors_battery()
    return battery is not None and battery.power_plugged is False
