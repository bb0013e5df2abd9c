"""Metrics over HTTP: one path, on loopback, behind the token, and nothing else that HTTP can do.

A server of our own, because it runs in the daemon's loop, where the figures are, and takes no more of a request than it
needs: each connection is answered once, within bounds of time and size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus

import structlog

from sessiond.daemon.bearer import Bearer

log = structlog.get_logger(__name__)

PATH = "/metrics"
MAX_HEAD_BYTES = 8192
"""Of a request's line and headers. A scrape has a few hundred."""
MAX_CONNECTIONS = 16
PATIENCE_S = 10.0
"""How long one connection may take, from its first byte to its end."""

Expose = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Given the header `Accept`: the text and its content type."""


class _Refused(Exception):
    """The request is answered with a status and nothing else."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@contextlib.asynccontextmanager
async def metrics_endpoint(address: str, token: str, expose: Expose) -> AsyncGenerator[None, None]:
    """Serve while inside; an empty address serves nothing. `address` is HOST:PORT, checked. Raises OSError."""
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    endpoint = _Endpoint(Bearer(token), expose)
    server = await asyncio.start_server(endpoint.answer, host.strip("[]"), int(port), limit=MAX_HEAD_BYTES)
    try:
        log.info("daemon.metrics", port=server.sockets[0].getsockname()[1])
        yield
    finally:
        server.close()
        await endpoint.end()


class _Endpoint:
    def __init__(self, bearer: Bearer, expose: Expose) -> None:
        self._bearer = bearer
        self._expose = expose
        self._running = set[asyncio.Task[object]]()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._running) < MAX_CONNECTIONS:
                self._running.add(task)
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(await self._answered(reader))
                    await writer.drain()
        except (TimeoutError, OSError, EOFError):
            pass  # the client went away, or takes too long: nobody is there to be told
        except asyncio.CancelledError:
            pass  # the daemon ends, and with it this task
        finally:
            self._running.discard(task)
            writer.close()

    async def end(self) -> None:
        """End what runs."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answered(self, reader: asyncio.StreamReader) -> bytes:
        try:
            method, accept = self._checked(await _head(reader))
            text, content_type = await self._expose(accept)
        except _Refused as refused:
            told = f"{refused.status.phrase}\n".encode()
            return _response(refused.status, "text/plain; charset=utf-8", told)
        return _response(HTTPStatus.OK, content_type, text, with_body=method == "GET")

    def _checked(self, head: list[bytes]) -> tuple[str, str]:
        """The method, and the header `Accept`."""
        headers = _headers(head[1:])
        # Before anything else: who has no token does not even learn what there is.
        if not self._bearer.allows(headers.get(b"authorization", b"")):
            raise _Refused(HTTPStatus.UNAUTHORIZED)
        method, target = _request_line(head[0])
        if target.partition("?")[0] != PATH:
            raise _Refused(HTTPStatus.NOT_FOUND)
        if method not in {"GET", "HEAD"}:
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        return method, headers.get(b"accept", b"").decode("latin-1")


async def _head(reader: asyncio.StreamReader) -> list[bytes]:
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None


def _request_line(line: bytes) -> tuple[str, str]:
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.0", "HTTP/1.1"}:
        raise _Refused(HTTPStatus.BAD_REQUEST)
    return parts[0], parts[1]


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    """By their names in small letters. One that comes twice is refused: which of the two was meant?"""
    found = dict[bytes, bytes]()
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name != name.strip() or name in found:
            raise _Refused(HTTPStatus.BAD_REQUEST)
        found[name] = value.strip()
    return found


def _response(status: HTTPStatus, content_type: str, body: bytes, *, with_body: bool = True) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        lines.append("WWW-Authenticate: Bearer")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")
