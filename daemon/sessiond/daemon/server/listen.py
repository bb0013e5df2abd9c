"""Where the daemon listens, and that it is the only one there.

A second gRPC server on the same Unix socket path would steal it silently, and the first one would delete the
second one's socket when it stops. So a lock on `<socket>.lock` is taken before the bind and held to the end. The
lock says who runs; the file may outlive it.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

from sessiond.daemon.private import NotPrivate, private_folder

MAX_SOCKET_BYTES = 107
"""What fits into `sockaddr_un.sun_path` with its closing NUL."""
LOCK_PATIENCE_S = 0.5
"""A client that looks whether a daemon runs holds the lock for an instant."""


class ListenError(Exception):
    """The daemon cannot listen there, and why."""


def prepare_socket(path: Path) -> Path:
    """The absolute path, in a folder that is ours alone. Raises ListenError."""
    path = path.expanduser().absolute()
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_BYTES:
        raise ListenError(f"the socket's path has {size} bytes, and may have {MAX_SOCKET_BYTES}: {path}")
    try:
        private_folder(path.parent, "the socket's folder", close=False)
    except NotPrivate as error:
        raise ListenError(str(error)) from error
    return path


@contextlib.contextmanager
def only_one(socket: Path) -> Generator[None, None, None]:
    """Hold the lock of a socket, with our process id on the file's first line. Raises ListenError if another daemon
    does. A socket that a dead daemon left is removed.
    """
    lock = os.open(f"{socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _take(lock, socket)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        socket.unlink(missing_ok=True)
        yield
        socket.unlink(missing_ok=True)
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def _take(lock: int, socket: Path) -> None:
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise ListenError(f"already running: another daemon listens on {socket}") from None
            time.sleep(0.02)
        else:
            return


def unix_target(socket: Path) -> str:
    """The socket as gRPC names it: a URI, in which `%`, `?` and `#` are not the path's own."""
    return f"unix:{quote(os.fsencode(socket))}"


def check_tcp(address: str, token: str, *, beyond_loopback: bool = False, tls: bool = False) -> str:
    """An address with a port, on loopback unless told otherwise, and only behind a token. Raises ListenError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{address!r} is not of the form HOST:PORT")
    if not token:
        raise ListenError("TCP needs a token: every user of this machine can connect. Set SESSIOND_TOKEN")
    if _is_loopback(host):
        return address
    if not beyond_loopback:
        raise ListenError(f"{host!r} is not a loopback address, and --tcp-beyond-loopback was not given")
    if not tls:
        raise ListenError(
            "beyond loopback the token and all texts would be readable on the way: TLS is needed"
        )
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
