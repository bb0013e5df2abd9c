"""What every side of the benchmark can do, and how an event is done by one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from benchmark.texts import Piece
from benchmark.took import Took
from benchmark.versions import Version
from sessiond.daemon.engine.threads import engine_environment
from sessiond.v1.config_pb2 import FLASH_ATTN_ON, Config

SETTLE_S = 0.02
"""After that nothing of one side is at work any more when the next one is timed: threads that have just computed spin for some
milliseconds, and would take a processor from it.
"""

Role = Literal["ours", "floor", "peer"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """How the model runs, on every side the same as far as it can be told: as the daemon chose it."""

    model: str
    """The path of its file."""
    num_batch: int
    num_ubatch: int
    threads: int
    threads_batch: int
    flash_attn: bool
    gpu_layers: int | None
    """None leaves it to the backend."""
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that lay its threads out."""


def runtime_of(model: str, config: Config) -> Runtime:
    """How a session of this config runs the model at that path."""
    return Runtime(
        model=model,
        num_batch=config.num_batch,
        num_ubatch=config.num_ubatch,
        threads=config.num_threads,
        threads_batch=config.num_threads_batch,
        flash_attn=config.flash_attn == FLASH_ATTN_ON,
        gpu_layers=config.num_gpu_layers if config.HasField("num_gpu_layers") else None,
        environ={
            name: value for name, value in engine_environment().items() if os.environ.get(name) != value
        },
    )


def assignments(environ: Mapping[str, str]) -> list[str]:
    """Variables as a shell takes them."""
    return [f"{name}={value}" for name, value in environ.items()]


@dataclass(frozen=True, slots=True)
class Work:
    """What is to come at one depth."""

    name: str
    """Short, and good for the name of a file."""
    window: int
    """Tokens that each client needs at most: prefix, suffix and answer."""
    clients: int
    others: int = 0
    """Tokens that each client beside the first needs at most."""


class Side(Protocol):
    """One program, and the best or the usual way to use it. What it cannot do raises NotMeasured, and so does what did
    not come to its end; it can be asked for the next thing then.
    """

    @property
    def name(self) -> str:
        """As tables call it."""
        ...

    @property
    def role(self) -> Role:
        """What it is compared as."""
        ...

    @property
    def flags(self) -> Sequence[str]:
        """What it was started with, without paths."""
        ...

    def begin(self, work: Work) -> None:
        """Make ready for other work. Nothing of what was there before counts."""
        ...

    def save(self, version: Version) -> None:
        """The files are now these. Not timed. Whatever it does about it by itself begins."""
        ...

    def think(self) -> float | None:
        """Somebody thinks for as long as the background takes; milliseconds since the save, None if that was too short."""
        ...

    def restart(self) -> None:
        """The program ends and begins anew. Not timed."""
        ...

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """One client, counted from 0, asks. The files are those that were saved last."""
        ...

    def together(self, version: Version, suffixes: Sequence[Piece], answer: int) -> Took:
        """So many clients ask at one moment."""
        ...

    def rest(self) -> None:
        """Return when nothing runs any more. Not timed."""
        ...

    def keep(self) -> None:
        """Somebody will come back to these files, or others will ask about them. Not timed."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens, to every side."""

    version: Version
    suffixes: tuple[Piece, ...]
    """One for each client that asks; several ask at one moment."""
    client: int = 0
    """Who asks, where one does."""
    answer: int = 1
    think: bool = False
    restart: bool = False
    keep: bool = False
    """Whether somebody comes back to this version, or others ask about it later."""


def perform(side: Side, event: Event) -> Took:
    """Let it happen to this side. Raises NotMeasured."""
    side.save(event.version)
    if event.restart:
        side.restart()
    ready_ms = side.think() if event.think else None
    try:
        if len(event.suffixes) == 1:
            took = side.turn(event.client, event.version, event.suffixes[0], event.answer)
        else:
            took = side.together(event.version, event.suffixes, event.answer)
    finally:
        side.rest()  # what broke off may go on for a while, and the next side is to have the machine
    if event.keep:
        side.keep()
    time.sleep(SETTLE_S)
    return msgspec.structs.replace(took, ready_ms=ready_ms)
