"""llama-server's side of a comparison: the program in a process of its own, spoken to through a Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

START_SECONDS = 120.0
ANSWER_SECONDS = 1800.0
CACHE_MIB = 8192
"""For prompts that left the cells: far more than a comparison needs."""


class ServerError(Exception):
    """It did not start, or did not answer as it should. The message says why."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What one server runs with."""

    flash_attn: bool
    slots: int
    cells: int
    """Tokens of the unified cache. It shares none between slots, so it needs room for all of them."""
    threads: int

    @property
    def name(self) -> str:
        """What this variant is called in figures."""
        return f"flash_attn_{'on' if self.flash_attn else 'off'}"

    def arguments(self) -> list[str]:
        """The command line. All the rest is the program's own choice. Idle slots keep their cells: by default it moves
        them out for every new request, and a request that takes such a prompt back takes it from the others.
        """
        numbers = {"-np": self.slots, "-c": self.cells, "-t": self.threads, "-cram": CACHE_MIB}
        told = [word for flag, number in numbers.items() for word in (flag, str(number))]
        told += ["-fa", "on" if self.flash_attn else "off"]
        return [*told, "--kv-unified", "--no-cache-idle-slots", "--no-ui", "--offline"]


@dataclass(slots=True)
class ServerTurn:
    """What one request cost. Times are those of `time.perf_counter`."""

    begun: float
    stamps: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    prefilled_tokens: int = 0
    reused_tokens: int = 0

    @property
    def first_at(self) -> float:
        """When the first token came."""
        return self.stamps[0][0]

    @property
    def first_token_ms(self) -> float:
        """From the request to the first token."""
        return (self.first_at - self.begun) * 1e3

    def take(self, event: dict[str, Any]) -> None:
        """Note an event that came just now."""
        if event.get("tokens"):
            self.stamps.append((time.perf_counter(), len(event["tokens"])))
        if event.get("stop"):
            self.prefilled_tokens = int(event["timings"]["prompt_n"])
            self.reused_tokens = int(event["timings"]["cache_n"])


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """See http.client."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class LlamaServer:
    """A running llama-server. Closing it ends the process."""

    def __init__(self, program: Path, model: str, flags: Flags, folder: Path) -> None:
        self.flags = flags
        self._socket = folder / f"{flags.name}.sock"
        self._log_path = folder / f"{flags.name}.log"
        self._log: IO[bytes] = self._log_path.open("wb")
        command = [str(program), "-m", model, "--host", str(self._socket), *flags.arguments()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def complete(self, tokens: Sequence[int], answer: int) -> ServerTurn:
        """The likeliest `answer` tokens after these. Raises ServerError."""
        asked = {
            "prompt": list(tokens),
            "n_predict": answer,
            "stream": True,
            "cache_prompt": True,
            "ignore_eos": True,
            "samplers": ["top_k"],
            "top_k": 1,
        }
        body = json.dumps(asked).encode()
        connection = _Connection(self._socket, ANSWER_SECONDS)
        try:
            turn = ServerTurn(time.perf_counter())
            connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
            answered = connection.getresponse()
            if answered.status != http.client.OK:
                raise ServerError(f"it answered {answered.status}: {answered.read(400)!r}")
            for line in answered:
                if event := event_of(line):
                    turn.take(event)
        finally:
            connection.close()
        if not turn.stamps:
            raise ServerError(f"it answered without a token; its log is {self._log_path}")
        return turn

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                last = self._log_path.read_text(errors="replace")[-2000:]
                raise ServerError(f"it does not serve. The end of its log:\n{last}")
            time.sleep(0.1)

    def _healthy(self) -> bool:
        connection = _Connection(self._socket, 5.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()


def event_of(line: bytes) -> dict[str, Any] | None:
    """The event in one line of a stream; None where there is none."""
    name, _, data = line.partition(b": ")
    if name == b"error":
        raise ServerError(data.decode("utf-8", "replace").strip())
    if name != b"data" or data.strip() == b"[DONE]":
        return None
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise ServerError(str(event["error"]))
    return event
