"""gRPC by hand over a Unix socket: a client that may stop anywhere, as no library lets one.

It writes HTTP/2 frames (RFC 9113) and headers without compression (RFC 7541, 6.2.2), and reads no more than it is asked
to. It needs nothing but the standard library, so that a process which is only there to be killed starts at once.

It shares no code with our client on purpose: that one speaks through grpcio, which ends whatever it began, and a fault that
both had would be seen by no test. What is alike in the two is the way into a `with` block and out of it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW = 4
"""The setting that says how many bytes of an answer may come before more are asked for."""
_CANCEL = 8
_WINDOW = 65_535
"""HTTP/2's own, with which every connection begins."""
_FRAME = 16_384
"""Bytes that a frame may have."""


class RawCall:
    """One connection and one call on it. `window` is how many bytes of answers the daemon may send."""

    def __init__(
        self, path: str, method: str, token: str = "", *, window: int = _WINDOW, timeout: float = 30.0
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
            setting = struct.pack(">HI", _INITIAL_WINDOW, window)
            self._socket.sendall(
                _PREFACE
                + _frame(_SETTINGS, 0, setting, stream=0)
                + _frame(_HEADERS, _END_HEADERS, b"".join(_fields(method, token)))
            )
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, wherever the call is."""
        self._socket.close()

    def send(self, message: bytes, *, only: int | None = None) -> None:
        """Send the request and end it; or its first `only` bytes, and leave the rest open."""
        whole = struct.pack(">BI", 0, len(message)) + message
        part = whole if only is None else whole[: only + 5]
        for at in range(0, len(part), _FRAME):
            last = only is None and at + _FRAME >= len(part)
            self._socket.sendall(_frame(_DATA, _END_STREAM if last else 0, part[at : at + _FRAME]))

    def cancel(self) -> None:
        """Reset the stream, and keep the connection."""
        self._socket.sendall(_frame(_RST_STREAM, 0, struct.pack(">I", _CANCEL)))

    def widen(self, size: int) -> None:
        """Let the daemon send this many bytes more."""
        self._socket.sendall(_frame(_WINDOW_UPDATE, 0, struct.pack(">I", size)))

    def answers(self) -> Iterator[bytes]:
        """Each message of the answer, until its end. Raises OSError where the daemon hangs up or says nothing."""
        buffer = b""
        for kind, flags, payload in self._frames():
            if kind == _DATA:
                buffer += payload
                while len(buffer) >= 5 and len(buffer) >= 5 + (size := _size(buffer)):
                    yield buffer[5 : 5 + size]
                    buffer = buffer[5 + size :]
            if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
                return

    def trailers(self) -> bytes:
        """Wait for the end of the call; its last headers, as they were packed."""
        last = b""
        for kind, flags, payload in self._frames():
            last = payload if kind == _HEADERS else last
            if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
                break
        return last

    def wait_for_close(self) -> None:
        """Until the daemon hangs up. Raises TimeoutError."""
        while self._socket.recv(_FRAME):
            pass

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            head = self._exactly(9)
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = self._exactly(size)
            if kind in {_SETTINGS, _PING} and not flags & _ACK:
                echo = payload if kind == _PING else b""
                self._socket.sendall(_frame(kind, _ACK, echo, stream=0))
            yield kind, flags, payload

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            more = self._socket.recv(size - len(got))
            if not more:
                raise ConnectionError("the daemon hung up")
            got += more
        return got


def _size(buffer: bytes) -> int:
    return int.from_bytes(buffer[1:5], "big")


def _frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _fields(method: str, token: str) -> Iterable[bytes]:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    if token:
        fields["authorization"] = f"Bearer {token}"
    for name, value in fields.items():
        yield b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    """A string of fewer than 127 bytes, not compressed."""
    data = text.encode()
    if len(data) > 126:
        raise ValueError(f"too long for this client: {text[:40]}")
    return bytes((len(data),)) + data
