"""Starting the daemon where none answers: detached, with a log file, and waited for until it serves."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from sessiond.client.daemon_lock import is_locked, running_pid
from sessiond.client.endpoint import TOKEN_VARIABLE, Endpoint
from sessiond.client.private import make_folder, open_log
from sessiond.v1.errors import SessionUnavailable, invalid

if TYPE_CHECKING:
    from sessiond.client.sync import Client

PROGRAM = "sessiond"
TIMEOUT_VARIABLE = "SESSIOND_START_TIMEOUT"

_DEFAULT_TIMEOUT = 120.0
_POLL_SECONDS = 0.1
_END_SECONDS = 5.0
_LAST_LINES = 12


def log_path() -> Path:
    """The file that a daemon started by a client writes to."""
    import platformdirs

    return platformdirs.user_log_path("sessiond") / "sessiond.log"


def start_timeout() -> float:
    """Seconds that a start may take. Raises InvalidInput for a SESSIOND_START_TIMEOUT that is no positive number."""
    told = os.environ.get(TIMEOUT_VARIABLE)
    if not told:
        return _DEFAULT_TIMEOUT
    with contextlib.suppress(ValueError):
        if 0 < float(told) < float("inf"):
            return float(told)
    raise invalid(TIMEOUT_VARIABLE, f"{told!r} is not a positive number of seconds")


def find_program() -> str:
    """The daemon's program: the one installed beside this Python, or else the one on PATH."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise SessionUnavailable(
            "no daemon answers, and the program sessiond is not installed: pip install 'sessiond[daemon]'"
        )
    return found


def is_listening(socket: Path) -> bool:
    """Whether anything accepts connections on this Unix socket."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.settimeout(5.0)
        try:
            probe.connect(str(socket))
        except OSError:
            return False
    return True


def ensure_running(client: Client, timeout: float | None = None) -> bool:
    """Make sure that a daemon serves on the client's Unix socket; start one if nothing listens there.

    Returns whether this call started it. Of clients that race each other all succeed: the daemons settle by their lock
    who stays, and each client waits for whoever does. Raises SessionUnavailable, with the last lines of its log, if the
    daemon ends at once or does not serve within `timeout` seconds (None: SESSIOND_START_TIMEOUT, or 120).
    """
    endpoint = client.endpoint
    if endpoint.socket is None or client.healthy():
        return False
    timeout = start_timeout() if timeout is None else timeout
    until = time.monotonic() + timeout
    if is_listening(endpoint.socket):  # somebody else has just started it
        _wait(client, endpoint.socket, until, timeout, None, 0)
        return False
    with _open_log() as log:
        begin = os.fstat(log).st_size
        process = _spawn(endpoint, endpoint.socket, log)
    _wait(client, endpoint.socket, until, timeout, process, begin)
    serves = running_pid(endpoint.socket)
    if serves not in (None, process.pid):
        _end_loser(process)
    return serves == process.pid


def _end_loser(process: subprocess.Popen[bytes]) -> None:
    """End a daemon that lost the race, and may still be starting: once the other one is stopped, it would take its place."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _open_log() -> Generator[int, None, None]:
    path = log_path()
    make_folder(path.parent)
    log = open_log(path)
    try:
        yield log
    finally:
        os.close(log)


def _spawn(endpoint: Endpoint, socket: Path, log: int) -> subprocess.Popen[bytes]:
    program = find_program()
    make_folder(socket.parent)
    environ = dict(os.environ)
    if endpoint.token:  # also one that came as a flag: the daemon should ask for the token that we send
        environ[TOKEN_VARIABLE] = endpoint.token
    return subprocess.Popen(
        [program, "serve", "--socket", str(socket)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environ,
        cwd="/",  # it outlives us, and should not hold on to our folder
        start_new_session=True,
    )


def _wait(
    client: Client,
    socket: Path,
    until: float,
    timeout: float,
    process: subprocess.Popen[bytes] | None,
    begin: int,
) -> None:
    """Until the daemon serves. `process` is ours, if we started one, and `begin` where its log begins."""
    while not client.healthy(timeout=max(0.1, min(5.0, until - time.monotonic()))):
        ended = process is not None and process.poll() is not None
        # One that ended while another holds the lock has only lost a race.
        if ended and not is_locked(socket) and not client.healthy():
            code = process.returncode if process else 0
            raise SessionUnavailable(
                f"the daemon ended with status {code} before it served{_last_words(begin)}"
            )
        if time.monotonic() > until:
            raise SessionUnavailable(
                f"the daemon on {socket} does not serve after {timeout:g} seconds; it may still be loading its model"
                f"{_last_words(begin)}"
            )
        time.sleep(_POLL_SECONDS)


def _last_words(begin: int) -> str:
    """The last lines of the log from an offset in bytes, as the end of a sentence."""
    try:
        with log_path().open("rb") as file:
            file.seek(begin)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    if not lines:
        return f"; its log {log_path()} is empty"
    return f"; the end of its log {log_path()}:\n" + "\n".join(lines[-_LAST_LINES:])
