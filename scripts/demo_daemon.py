"""A daemon for the demo alone: its own socket, state and log in a temporary folder, stopped whatever happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

from sessiond.client import Client, SessionUnavailable
from sessiond.client.daemon_process import find_program, start_timeout

NUM_CTX = 8192
_STOP_SECONDS = 15.0
_SHOWN_LINES = 20


@contextlib.contextmanager
def own_daemon(
    folder: Path,
    model: str,
    waiting: contextlib.AbstractContextManager[object] | None = None,
    *,
    measure: bool = False,
) -> Generator[Client, None, None]:
    """A client of a fresh daemon that serves `model`; empty is the daemon's default.

    `waiting` is entered while it does not yet serve; with `measure` that is longer, as it times the model first, unless
    it has done so in this folder before. Raises SessionUnavailable if it never does.
    """
    log = folder / "daemon.log"
    config = folder / "sessiond.toml"
    config.touch()  # an empty one: the user's own settings are not meant for the demo
    socket = folder / "d.sock"
    command = [
        find_program(),
        "serve",
        "--socket",
        str(socket),
        "--state-dir",
        str(folder / "state"),
        "--measure" if measure else "--no-measure",
    ]
    command += ["--config", str(config), "--num-ctx", str(NUM_CTX), "--stop-grace", "1"]
    command += ["--log-format", "console"] + (["--model", model] if model else [])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SESSIOND_")}
    with log.open("wb") as words:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environ | {"NO_COLOR": "1"},
            start_new_session=True,  # a Ctrl-C is ours to hear; we end the daemon then
        )
    try:
        with Client(socket=socket, token="") as client:
            with waiting or contextlib.nullcontext():
                _wait(client, process)
            yield client
    finally:
        _stop(process)


def daemon_pid(folder: Path) -> int:
    """The process of the daemon of this folder. Raises OSError or ValueError where there is none."""
    return int((folder / "d.sock.lock").read_text("utf-8"))


def last_words(folder: Path) -> str:
    """The end of the daemon's log; empty if it has none."""
    try:
        lines = (folder / "daemon.log").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_SHOWN_LINES:])


def _wait(client: Client, process: subprocess.Popen[bytes]) -> None:
    timeout = start_timeout()
    until = time.monotonic() + timeout
    while not client.healthy(timeout=1.0):
        if process.poll() is not None:
            raise SessionUnavailable(f"the daemon ended with status {process.returncode} before it served")
        if time.monotonic() > until:
            raise SessionUnavailable(f"the daemon does not serve after {timeout:g} seconds")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.terminate()
        process.wait(_STOP_SECONDS)
    except BaseException as error:  # also a second Ctrl-C while we wait
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
