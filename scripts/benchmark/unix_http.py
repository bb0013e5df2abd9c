"""HTTP over a Unix socket or a local port: one request, one answer or a stream of events, with limits."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_LINE = 1 << 20
"""Bytes of one event. A longer line is not one of these programs'."""


class ServerError(Exception):
    """A server did not start, or did not answer as it should. The message says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a socket's path, or a port of this machine."""

    path: Path | None = None
    port: int = 0

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """A connection that is not yet made. Every wait on it ends after so many seconds."""
        if self.path is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        return _UnixConnection(self.path, seconds)

    def answers(self, path: str, seconds: float) -> bool:
        """Whether it answers a GET with 200."""
        with closing(self.connection(seconds)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    def events(self, path: str, body: bytes, seconds: float) -> Generator[dict[str, Any], None, None]:
        """The events of a streamed answer to a POST of JSON, each as it comes. Raises ServerError."""
        with closing(self.connection(seconds)) as connection:
            answered = _posted(connection, path, body)
            try:
                while line := answered.readline(MOST_LINE):
                    if event := event_of(line):
                        yield event
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ServerError(f"its answer broke off: {error}") from error

    def post(self, path: str, asked: Mapping[str, object], seconds: float) -> object:
        """The answer to a POST, as JSON. Raises ServerError."""
        with closing(self.connection(seconds)) as connection:
            answered = _posted(connection, path, json.dumps(asked).encode())
            try:
                return json.loads(answered.read(MOST_LINE))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ServerError(f"its answer cannot be read: {error}") from error


def event_of(line: bytes) -> dict[str, Any] | None:
    """The event in one line of a stream; None where there is none. Raises ServerError for the word of an error."""
    name, _, data = line.partition(b": ")
    if name == b"error":
        raise ServerError(data.decode("utf-8", "replace").strip())
    if name != b"data" or data.strip() == b"[DONE]":
        return None
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise ServerError(str(event["error"]))
    return event


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _posted(connection: http.client.HTTPConnection, path: str, body: bytes) -> http.client.HTTPResponse:
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answered = connection.getresponse()
        if answered.status != http.client.OK:
            raise ServerError(f"it answered {answered.status}: {answered.read(400)!r}")
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"it does not answer: {error}") from error
    return answered
