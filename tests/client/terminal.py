"""`sessionctl` as a program of its own, and at a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from typing import IO

from tests.client.fake_daemon import FakeDaemon


def program(daemon: FakeDaemon, *arguments: str) -> list[str]:
    """The command line that speaks to this daemon."""
    return [sys.executable, "-m", "sessiond.client.cli.main", "--socket", str(daemon.socket), *arguments]


def on_a_terminal(command: list[str], output: IO[bytes] | None = None) -> str:
    """What a program prints on a terminal: all of it, or what does not go to `output` as its standard output."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output or theirs, stderr=theirs, env=environ
    ) as running:
        os.close(theirs)
        said = b""
        until = time.monotonic() + 20
        while time.monotonic() < until and select.select([ours], [], [], 20)[0]:
            try:
                read = os.read(ours, 4096)
            except OSError:  # its last end was closed
                break
            if not read:
                break
            said += read
        assert running.wait(10) == 0
    os.close(ours)
    return said.decode()
