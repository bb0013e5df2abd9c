"""A real daemon in a process of its own, and what a test asks of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import psutil

from sessiond.client import Client
from sessiond.client.transport import OPTIONS

PROGRAMS = Path(sys.executable).parent
START_SECONDS = 120.0

T = TypeVar("T")


def eventually(ask: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
    """The first answer that is true."""
    until = time.monotonic() + seconds
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


@contextmanager
def short_folder() -> Generator[Path, None, None]:
    """A folder whose path leaves room for a socket's name; pytest's own are too long for that."""
    path = Path(tempfile.mkdtemp(prefix="sd-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def own_environment(folder: Path) -> dict[str, str]:
    """The environment, with nothing of the user's own files and variables in it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SESSIOND_")}
    for name in (
        "HOME",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
    ):
        place = folder / name.lower().removeprefix("xdg_")
        place.mkdir(mode=0o700, exist_ok=True)
        environ[name] = str(place)
    return environ


class Daemon:
    """`sessiond serve` on a socket in `folder`. As a context it is waited for, and ended with SIGTERM and status 0."""

    def __init__(
        self,
        folder: Path,
        model: str = "",
        *flags: str,
        env: dict[str, str] | None = None,
        token: str = "",
        socket: Path | None = None,
        wait: bool = True,
    ) -> None:
        self.folder = folder
        self.socket = socket or folder / "s.sock"
        self.log_path = folder / "daemon.log"
        self.token = token
        self._wait = wait
        given = ["--model", model] if model else []
        command = [
            *(str(PROGRAMS / "sessiond"), "serve", "--socket", str(self.socket)),
            *("--state-dir", str(folder / "state"), "--log-format", "json"),
            "--no-measure",  # a test that wants it says so after this
            *given,
            *flags,
        ]
        environ = own_environment(folder) | (env or {})
        if token:
            environ["SESSIOND_TOKEN"] = token
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
            )
        self.client = self.new_client()
        self._channels: list[grpc.Channel] = []

    def __enter__(self) -> Self:
        if self._wait:
            self.wait_until_serving()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            status = self.stop()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        assert kind is not None or status == 0, f"status {status}; its log ends:\n{self.log_tail()}"

    def new_client(self, timeout: float | None = 120.0) -> Client:
        """One more client."""
        return Client(self.socket, token=self.token, timeout=timeout)

    def channel(self) -> grpc.Channel:
        """A bare channel, closed at the end."""
        made = grpc.insecure_channel(f"unix:{self.socket}", OPTIONS)
        self._channels.append(made)
        return made

    def wait_until_serving(self) -> None:
        """Until the health service says so."""

        def serving() -> bool:
            assert self.process.poll() is None, f"ended early; its log ends:\n{self.log_tail()}"
            return self.client.healthy(timeout=2.0)

        eventually(serving, f"the daemon serves; its log: {self.log_path}", START_SECONDS)

    def wait(self, seconds: float = 40.0) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.client.close()
        for channel in self._channels:
            channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def log_text(self) -> str:
        """All that it wrote."""
        return self.log_path.read_text("utf-8", "replace")

    def log_tail(self) -> str:
        """The last of what it wrote."""
        return "\n".join(self.log_text().splitlines()[-20:])

    def records(self, event: str = "") -> list[dict[str, Any]]:
        """The log's lines of one event."""
        lines = [line for line in self.log_text().splitlines() if line.startswith("{")]
        parsed: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [record for record in parsed if not event or record["event"] == event]

    def engine_pid(self) -> int:
        """The process of the engine that was ready last."""
        return int(self.records("engine.ready")[-1]["pid"])

    def memory(self) -> int:
        """Resident bytes of the daemon's own process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


def run_daemon(
    folder: Path, *flags: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`sessiond serve` that is expected to end by itself."""
    return subprocess.run(
        [str(PROGRAMS / "sessiond"), "serve", *flags],
        env=own_environment(folder) | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_gone(pid: int) -> bool:
    """Whether a process has ended. A zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def sentence_of(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that the daemon says to a person when it cannot start."""
    said = [line for line in ended.stderr.splitlines() if line.startswith("sessiond: ")]
    assert said, f"no sentence in: {ended.stderr}"
    assert "Traceback" not in ended.stderr
    return said[-1]


def flags_of(pairs: dict[str, str]) -> Sequence[str]:
    """`{"--a": "b"}` as arguments."""
    return [part for pair in pairs.items() for part in pair]
