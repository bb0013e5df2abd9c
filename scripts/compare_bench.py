"""What the scenarios of a comparison work with: sizes, texts, our daemon, the others' processes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from benchmark.floor_loop import Setup
from benchmark.floor_process import FloorProcess
from benchmark.sides import runtime_of
from benchmark.texts import Piece, Texts
from benchmark.turns import ROOM
from compare_server import Flags, LlamaServer
from sessiond.client import Client, Session

FROM_SWITCH = 3
"""Of a session that goes to and fro between two prefixes, the first switch that has to find everything: it starts
on A, the first switch computes B, the second goes back."""

VARIANTS = {"on": (True,), "off": (False,), "both": (True, False)}
"""Flash attention in llama-server: which is faster depends on the work and on the machine, so both are tried."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. Tokens, unless it says otherwise."""

    prefix: int
    suffix: int
    answer: int
    sessions: int
    """How many sessions, slots and streams."""
    rounds: int
    """How often the work that needs a new prefix is done."""
    repeats: int
    """How often the work over a warm prefix is done."""
    switches: int
    """How often the prefix changes between two branches."""
    alone: int
    """The prefix where texts are compared, which deterministic sessions may each have to compute."""
    neighbour: int
    """The idle workspace's prefix."""

    def __post_init__(self) -> None:
        """Raises ValueError, naming the size."""
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")
        if self.switches < FROM_SWITCH:
            raise ValueError(f"switches is at least {FROM_SWITCH}")
        if self.prefix // 2 <= self.suffix:
            raise ValueError("half of the prefix is more than the suffix")


class Bench:
    """Everything a scenario needs. llama-servers start when they are first asked for, and stay."""

    def __init__(
        self,
        client: Client,
        sizes: Sizes,
        folder: Path,
        peer: Path | None,
        variants: str,
        stack: contextlib.ExitStack,
    ) -> None:
        self.client = client
        self.sizes = sizes
        self.folder = folder
        self.texts = Texts(client)
        self.model = client.model().absolute_path
        self._peer, self._variants = peer, VARIANTS[variants]
        self._stack = stack
        self._servers: list[LlamaServer] = []
        self._shared: Piece | None = None

    def share(self, prefix: Piece) -> None:
        """Note a prefix that all slots of llama-server hold: it needs minutes to come there again."""
        self._shared = prefix

    def prefix(self) -> Piece:
        """The prefix that was noted last, else a new one."""
        return self._shared or self.texts.take(self.sizes.prefix)

    def servers(self, session: Session) -> list[LlamaServer]:
        """llama-server in all variants, with as many threads as our session; none without a peer."""
        if self._peer is not None and not self._servers:
            sizes = self.sizes
            each = sizes.prefix + sizes.suffix + sizes.answer + ROOM
            for flash_attn in self._variants:
                flags = Flags(
                    flash_attn, sizes.sessions, sizes.sessions * each, session.info().config.num_threads
                )
                server = LlamaServer(self._peer, self.model, flags, self.folder)
                self._stack.callback(server.close)
                self._servers.append(server)
        return self._servers

    @contextlib.contextmanager
    def bare(self, session: Session) -> Generator[FloorProcess]:
        """The bare loop, with the settings of our session and cells for all streams. Raises NotMeasured."""
        config, sizes = session.info().config, self.sizes
        cells = sizes.prefix + sizes.sessions * (sizes.suffix + sizes.answer) + ROOM
        bare = FloorProcess(Setup(runtime_of(self.model, config), cells, sizes.sessions, kept_states=0))
        try:
            yield bare
        finally:
            bare.close()
