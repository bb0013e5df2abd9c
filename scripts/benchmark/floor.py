"""The floor: for each event the work that no side could be spared, done by a bare loop over llama.cpp.

What could be there already is what was asked about before: the longest beginning that any prompt since `begin` had in
common with this one. Whoever thinks first has the new prefix, too. After a restart it has to come back as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.floor_loop import Ask, Caching, Phase, Ran, Setup, common
from benchmark.floor_process import FloorProcess
from benchmark.sides import Role, Runtime, Work, assignments
from benchmark.stamps import together, token_ms
from benchmark.texts import Piece
from benchmark.took import NotMeasured, Took
from benchmark.turns import ROOM
from benchmark.versions import Version

SEEN = 256
"""Prefixes and prompts that count as seen."""


class Floor:
    """See the module. `begin` has to be told how the daemon runs the model: see `like`."""

    name = "floor"
    role: Role = "floor"

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._process: FloorProcess | None = None
        self._seen: list[tuple[int, ...]] = []
        """Prefixes and whole prompts that were asked about."""
        self._version: Version | None = None
        self._restores = False

    @property
    def flags(self) -> Sequence[str]:
        """See Side."""
        return assignments(self._runtime.environ) if self._runtime else ()

    def like(self, runtime: Runtime) -> None:
        """Run the model like this from the next `begin` on."""
        self._runtime = runtime

    def begin(self, work: Work) -> None:
        """See Side. Raises NotMeasured if the model cannot be loaded so."""
        self.close()
        if self._runtime is None:
            raise NotMeasured("it is not known how the model runs")
        if not Path(self._runtime.model).is_file():
            raise NotMeasured("the model is no file that llama.cpp could load")
        # The prefix stands once; each client has its own suffix and answer behind it.
        cells = work.window + (work.clients - 1) * (work.window // 4 + ROOM)
        self._process = FloorProcess(Setup(self._runtime, cells, max(1, work.clients)))
        self._seen, self._version, self._restores = [], None, False

    def save(self, version: Version) -> None:
        """See Side."""
        self._version = version

    def think(self) -> float:
        """See Side. What thinking leaves to do is the suffix alone."""
        if self._version is not None:
            self._remember(self._version.ids)
        return 0.0

    def restart(self) -> None:
        """See Side. The process goes on: what a restart costs is the copy back."""
        self._restores = True

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """See Side."""
        whole = (*version.ids, *suffix.ids)
        # At least one token has to be computed: no saved state has logits.
        hot = min(self._hot(whole), len(whole) - 1)
        ran = self._ask(Ask(whole[:hot], (whole[hot:],), answer, self._restores))
        restored = hot if self._restores else 0
        self._restores = False
        self._remember(version.ids, whole)
        return Took(
            first_token_ms=ran.first_ms,
            token_ms=token_ms(ran.streams[0]),
            prefilled_tokens=len(whole) - hot,
            reused_tokens=hot - restored,
            restored_tokens=restored,
        )

    def together(self, version: Version, suffixes: Sequence[Piece], answer: int) -> Took:
        """See Side. What is not there of the prefix is computed once, and counts."""
        hot = min(self._hot(version.ids), len(version.ids))
        missing = version.ids[hot:]
        first = self._ask(Ask(version.ids[:hot], (missing,), 1)).first_ms if missing else 0.0
        ran = self._ask(Ask(version.ids, tuple(piece.ids for piece in suffixes), answer))
        self._remember(version.ids, *((*version.ids, *piece.ids) for piece in suffixes))
        speed = together(ran.streams)
        return Took(
            first_token_ms=first + ran.first_ms,
            token_ms=1e3 / speed if speed else 0.0,
            prefilled_tokens=len(missing) + sum(len(piece.ids) for piece in suffixes),
            reused_tokens=hot + len(version.ids) * (len(suffixes) - 1),
            restored_tokens=0,
        )

    def caching(self, asked: Caching) -> list[Phase]:
        """See `prompt_caching`. Raises NotMeasured."""
        return self._running().cached(asked)

    def rest(self) -> None:
        """See Side. It never does anything by itself."""

    def keep(self) -> None:
        """See Side. Nothing has to be told: it knows what it has seen."""

    def close(self) -> None:
        """See Side."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _remember(self, *prompts: tuple[int, ...]) -> None:
        kept = [ids for ids in self._seen if ids not in prompts]
        self._seen = [*kept, *prompts][-SEEN:]

    def _hot(self, ids: Sequence[int]) -> int:
        return max((common(ids, seen) for seen in self._seen), default=0)

    def _ask(self, ask: Ask) -> Ran:
        return self._running().ran(ask)

    def _running(self) -> FloorProcess:
        if self._process is None:
            raise NotMeasured("the bare loop does not run")
        return self._process
