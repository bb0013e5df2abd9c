"""llama-server, as anybody runs it and as a clever client would.

The clever client warms its slot with the new prefix after each save. It saves the slot where somebody will come back to
that prefix, and restores it then: into its own slot after an undo or a restart, into that of every other client that comes.
Where all slots share their cells, it erases those that hold files as they were: every slot computes over all cells that
are taken.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmark.at_once import at_once
from benchmark.llama_server import ANSWER_SECONDS, CACHE_MIB, ServerTurn, complete, request
from benchmark.process import Program
from benchmark.sides import Role, Runtime, Work, assignments
from benchmark.stamps import together
from benchmark.texts import Piece
from benchmark.took import NotMeasured, Took
from benchmark.turns import ROOM
from benchmark.unix_http import Address, ServerError
from benchmark.versions import Version

KEPT_FILES = 4
CACHE_SHARE = 12
"""Of the machine's memory, a cache for prompts may take one part in so many: several servers are there at once."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run it."""

    name: str
    clever: bool = False
    flash_attn: bool | None = None
    """None leaves it to the program, and so for the next one."""
    unified: bool | None = None

    def arguments(self, runtime: Runtime, work: Work) -> list[str]:
        """The command line, without paths. All sides have the same threads; the rest of the defaults is its own choice."""
        told = ["-t", str(runtime.threads), "-tb", str(runtime.threads_batch)]
        if runtime.gpu_layers is not None:
            told += ["-ngl", str(runtime.gpu_layers)]
        if self.clever:
            # A unified cache shares nothing between slots, so it too needs room for all of them. Idle slots keep their
            # cells: by default a new request moves them out.
            others = work.window if self.unified is False else work.others
            cells = work.window + ROOM + (work.clients - 1) * (others + ROOM)
            told += ["-np", str(work.clients), "-c", str(cells), "-cram", str(cache_mib())]
            told += ["-b", str(runtime.num_batch), "-ub", str(runtime.num_ubatch), "--no-cache-idle-slots"]
        if self.flash_attn is not None:
            told += ["-fa", "on" if self.flash_attn else "off"]
        if self.unified is not None:
            told += ["--kv-unified" if self.unified else "--no-kv-unified"]
        return [*told, "--no-ui", "--offline"]


def cache_mib() -> int:
    """For prompts that left the cells, where a clever client says how much: a dozen of long ones."""
    return min(CACHE_MIB, (psutil.virtual_memory().total >> 20) // CACHE_SHARE)


DEFAULT = Variant("llama-server")
UNIFIED = Variant("llama-server unified", clever=True, flash_attn=False, unified=True)
SPLIT = Variant("llama-server split", clever=True, flash_attn=False, unified=False)
SPLIT_FLASH = Variant("llama-server split, flash", clever=True, flash_attn=True, unified=False)

QUICK: tuple[Variant, ...] = (DEFAULT, UNIFIED)
FULL: tuple[Variant, ...] = (DEFAULT, UNIFIED, SPLIT, SPLIT_FLASH)


class LlamaServer:
    """One variant. `like` is told before `begin` how the daemon runs the model."""

    role: Role = "peer"

    def __init__(self, program: Path, variant: Variant, folder: Path) -> None:
        self._program_path, self._variant, self._folder = program, variant, folder
        self._address = Address(folder / f"{_short(variant.name)}.sock")
        self._program: Program | None = None
        self._runtime: Runtime | None = None
        self._work = Work("none", 0, 1)
        self._version: Version | None = None
        self._saved: dict[tuple[int, ...], str] = {}
        """Names of slots' files, by the prefix that they hold."""
        self._holds: dict[int, Version | None] = {}
        """What the clever client knows of its slots."""
        self._arguments: Sequence[str] = ()
        self._environ: Mapping[str, str] = {}
        self.flags: Sequence[str] = ()

    @property
    def name(self) -> str:
        """See Side."""
        return self._variant.name

    def version(self) -> str:
        """As the program tells it; empty if it does not."""
        try:
            done = subprocess.run(
                [str(self._program_path), "--version"],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        told = (done.stdout + done.stderr).splitlines()
        return next((line for line in told if line.startswith("version")), "")[:200]

    def like(self, runtime: Runtime) -> None:
        """Run the model like this from the next `begin` on, as far as the variant says so."""
        self._runtime = runtime

    def begin(self, work: Work) -> None:
        """See Side. Raises NotMeasured if it does not start."""
        if self._runtime is None:
            raise NotMeasured("it is not known how the model runs")
        self._work, self._version = work, None
        self._arguments = self._variant.arguments(self._runtime, work)
        self._environ = self._runtime.environ if self._variant.clever else {}
        self.flags = [*assignments(self._environ), *self._arguments]
        for name in self._saved.values():
            (self._slots / name).unlink(missing_ok=True)
        self._saved = {}
        self._start()

    def save(self, version: Version) -> None:
        """See Side. Whoever does not think sends no warm-up: the question is there at once."""
        self._version = version
        if self._variant.unified:
            for slot in [slot for slot, held in self._holds.items() if slot and held is not version]:
                self._action(slot, "erase")
                del self._holds[slot]

    def think(self) -> float:
        """See Side. By default nothing happens then."""
        begun = time.perf_counter()
        if self._variant.clever and self._version is not None:
            self._complete(self._request(0, self._version.ids, 1))
            self._holds[0] = self._version
        return (time.perf_counter() - begun) * 1e3

    def restart(self) -> None:
        """See Side. Files of slots stay."""
        self.keep()
        self._start()

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """See Side. A slot that has to be restored first is, within the turn's time."""
        body = self._request(client, (*version.ids, *suffix.ids), answer)
        begun = time.perf_counter()
        restored = self._restored(client, version)
        turn = self._complete(body)
        took = _took([turn], (turn.first_at - begun) * 1e3, turn.token_ms)
        self._holds[client] = version
        return _with_restored(took, restored)

    def together(self, version: Version, suffixes: Sequence[Piece], answer: int) -> Took:
        """See Side."""

        def one(client: int, body: bytes) -> tuple[ServerTurn, int]:
            restored = self._restored(client, version)
            return self._complete(body), restored

        bodies = [
            self._request(client, (*version.ids, *piece.ids), answer) for client, piece in enumerate(suffixes)
        ]
        begun, done = at_once([partial(one, client, body) for client, body in enumerate(bodies)])
        turns = [turn for turn, _ in done]
        self._holds |= dict.fromkeys(range(len(suffixes)), version)
        speed = together([turn.stamps for turn in turns])
        wall_ms = (max(turn.first_at for turn in turns) - begun) * 1e3
        took = _took(turns, wall_ms, 1e3 / speed if speed else 0.0)
        return _with_restored(took, sum(restored for _, restored in done))

    def rest(self) -> None:
        """See Side. It never does anything by itself."""

    def keep(self) -> None:
        """See Side. A few files at a time: each may have a hundred megabytes."""
        version = self._version
        if not self._variant.clever or version is None or self._holds.get(0) is not version:
            return
        if version.ids in self._saved:
            return
        while len(self._saved) >= KEPT_FILES:
            oldest = next(iter(self._saved))
            (self._slots / self._saved.pop(oldest)).unlink(missing_ok=True)
        name = f"{_short(version.token_hash)}.bin"
        self._action(0, "save", name)
        self._saved[version.ids] = name

    def close(self) -> None:
        """See Side."""
        if self._program is not None:
            self._program.close()
            self._program = None

    @property
    def _slots(self) -> Path:
        return self._folder / f"{_short(self.name)}.slots"

    def _start(self) -> None:
        self.close()
        self._holds = {}
        assert self._runtime is not None and self._address.path is not None
        command = [str(self._program_path), "-m", self._runtime.model, "--host", str(self._address.path)]
        if self._variant.clever:
            self._slots.mkdir(exist_ok=True)
            command += ["--slot-save-path", str(self._slots)]
        self._address.path.unlink(missing_ok=True)
        log = self._folder / f"{_short(self.name)}.log"
        self._program = Program([*command, *self._arguments], self._address, "/health", log, self._environ)

    def _restored(self, client: int, version: Version) -> int:
        """Bring a saved prefix back into a client's slot that does not hold it; how many tokens that were."""
        if not self._variant.clever or version.ids not in self._saved or self._holds.get(client) is version:
            return 0
        self._action(client, "restore", self._saved[version.ids])
        return len(version.ids)

    def _action(self, slot: int, action: str, name: str = "") -> None:
        asked = {"filename": name} if name else {}
        try:
            self._address.post(f"/slots/{slot}?action={action}", asked, ANSWER_SECONDS)
        except ServerError as error:
            raise self._failed(error) from error

    def _request(self, client: int, ids: Sequence[int], answer: int) -> bytes:
        """For the likeliest tokens after these. Only the clever client says in which slot."""
        return request(ids, answer, client if self._variant.clever else None)

    def _complete(self, body: bytes) -> ServerTurn:
        """Raises NotMeasured."""
        try:
            return complete(self._address, body)
        except ServerError as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> NotMeasured:
        told = f"{error}"
        if self._program is not None and self._program.ended:
            told += f"; it ended, and said last: {self._program.last_words()}"
        return NotMeasured(told)


def _took(turns: Sequence[ServerTurn], first_token_ms: float, token_ms: float) -> Took:
    return Took(
        first_token_ms=first_token_ms,
        token_ms=token_ms,
        prefilled_tokens=sum(turn.prefilled_tokens for turn in turns),
        reused_tokens=sum(turn.reused_tokens for turn in turns),
        restored_tokens=0,
    )


def _with_restored(took: Took, restored: int) -> Took:
    """What came back from a file is counted by the program as cached."""
    reused = took.reused_tokens or 0
    return Took(
        first_token_ms=took.first_token_ms,
        token_ms=took.token_ms,
        prefilled_tokens=took.prefilled_tokens,
        reused_tokens=max(0, reused - restored),
        restored_tokens=min(restored, reused),
    )


def _short(text: str) -> str:
    """A name for files: a socket's path may have 107 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
