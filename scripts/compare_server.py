"""llama-server's side of a comparison: the program with the flags that are best for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.llama_server import CACHE_MIB, ServerTurn, complete, request
from benchmark.process import Program
from benchmark.took import NotMeasured
from benchmark.unix_http import Address, ServerError

START_SECONDS = 120.0
_SHOWN = 2000
"""Characters of the end of its log."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What one server runs with."""

    flash_attn: bool
    slots: int
    cells: int
    """Tokens of the unified cache. It shares none between slots, so it needs room for all of them."""
    threads: int
    more: tuple[str, ...] = ()
    """Flags beside these."""
    called: str = ""
    """What this variant is called, if not by its attention."""

    @property
    def name(self) -> str:
        """What this variant is called in figures."""
        return self.called or f"flash_attn_{'on' if self.flash_attn else 'off'}"

    def arguments(self) -> list[str]:
        """The command line. All the rest is the program's own choice. Idle slots keep their cells: by default it moves
        them out for every new request, and a request that takes such a prompt back takes it from the others.
        """
        numbers = {"-np": self.slots, "-c": self.cells, "-t": self.threads, "-cram": CACHE_MIB}
        told = [word for flag, number in numbers.items() for word in (flag, str(number))]
        told += ["-fa", "on" if self.flash_attn else "off"]
        return [*told, "--kv-unified", "--no-cache-idle-slots", "--no-ui", "--offline", *self.more]


class LlamaServer:
    """A running llama-server. Closing it ends the process."""

    def __init__(self, program: Path, model: str, flags: Flags, folder: Path) -> None:
        """Raises ServerError if it does not serve."""
        self.flags = flags
        self._address = Address(folder / f"{flags.name}.sock")
        self._log = folder / f"{flags.name}.log"
        command = [str(program), "-m", model, "--host", str(self._address.path), *flags.arguments()]
        try:
            self._program = Program(command, self._address, "/health", self._log, start_seconds=START_SECONDS)
        except NotMeasured as error:
            last = self._log.read_text("utf-8", "replace")[-_SHOWN:]
            raise ServerError(f"it does not serve. The end of its log:\n{last}") from error

    def complete(self, tokens: Sequence[int], answer: int) -> ServerTurn:
        """The likeliest `answer` tokens after these. Raises ServerError."""
        try:
            return complete(self._address, request(tokens, answer))
        except ServerError as error:
            raise ServerError(f"{error}; its log is {self._log}") from error

    def close(self) -> None:
        """End it."""
        self._program.close()
