"""The HTTP endpoint under requests of every kind: a status or nothing, within bounds, and always there for the next one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.daemon.metrics import endpoint
from sessiond.daemon.metrics.endpoint import MAX_CONNECTIONS, MAX_HEAD_BYTES, metrics_endpoint

TOKEN = "the-token"
AUTH = b"Authorization: Bearer the-token\r\n"


async def _expose(accept: str) -> tuple[bytes, str]:
    return f"accept={accept}\n".encode(), "text/plain"


@contextlib.asynccontextmanager
async def _serving(address: str = "127.0.0.1:0") -> AsyncGenerator[int, None]:
    """The port."""
    with structlog.testing.capture_logs() as logs:
        async with metrics_endpoint(address, TOKEN, _expose):
            yield next(line["port"] for line in logs if line["event"] == "daemon.metrics")


async def _said(port: int, sent: bytes, *, finish: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            if finish:
                writer.write_eof()
            return await reader.read()
        return b""
    finally:
        writer.close()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n" + AUTH + b"\r\n", 200),
        (b"GET /metrics HTTP/1.0\r\nauthorization:Bearer the-token\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 401),
        (b"GET /metrics HTTP/1.1\r\nAuthorization: bearer the-token\r\n\r\n", 401),
        (b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer\r\n\r\n", 401),
        (b"nonsense\r\n\r\n", 401),
        (b"nonsense\r\n" + AUTH + b"\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n" + AUTH + b"\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n" + AUTH + b"\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + AUTH + AUTH + b"\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nAuthorization : Bearer the-token\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n: x\r\n" + AUTH + b"\r\n", 400),
        (b"GET /%6detrics HTTP/1.1\r\n" + AUTH + b"\r\n", 404),
        (b"GET http://127.0.0.1/metrics HTTP/1.1\r\n" + AUTH + b"\r\n", 404),
        (b"DELETE /metrics HTTP/1.1\r\n" + AUTH + b"\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (2 * MAX_HEAD_BYTES) + b"\r\n" + AUTH + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n", 0),
        (b"", 0),
    ],
)  # fmt: skip
async def test_requests(sent: bytes, status: int) -> None:
    async with _serving() as port:
        assert _status(await _said(port, sent)) == status


async def test_the_body_is_as_long_as_it_is_said_to_be() -> None:
    async with _serving() as port:
        head, _, body = (
            await _said(port, b"GET /metrics HTTP/1.1\r\nAccept: a/b\r\n" + AUTH + b"\r\n")
        ).partition(b"\r\n\r\n")
    assert body == b"accept=a/b\n"
    assert f"Content-Length: {len(body)}".encode() in head


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
async def test_any_bytes_get_a_status_or_nothing(noise: bytes, as_head: bool) -> None:
    async with _serving() as port:
        sent = b"GET /metrics HTTP/1.1\r\n" + noise + b"\r\n\r\n" if as_head else noise
        assert _status(await _said(port, sent)) in {0, 400, 401, 404, 405, 431}
        assert _status(await _said(port, b"GET /metrics HTTP/1.1\r\n" + AUTH + b"\r\n")) == 200


async def test_whoever_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PATIENCE_S", 0.05)
    async with _serving() as port:
        assert await _said(port, b"GET /metrics HTTP/1.1\r\n", finish=False) == b""


async def _until(port: int, *, answered: bool) -> None:
    """Ask until whole requests are answered, or until none is any more."""
    whole = b"GET /metrics HTTP/1.1\r\n" + AUTH + b"\r\n"
    while bool(await _said(port, whole)) != answered:  # noqa: ASYNC110 - nobody tells of a place that came free
        await asyncio.sleep(0.01)


async def test_too_many_at_once_are_let_go_and_their_places_come_back() -> None:
    async with _serving() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        await _until(port, answered=False)
        for _, writer in idle:
            writer.close()
        await _until(port, answered=True)


async def test_its_end_ends_what_is_open() -> None:
    async with _serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET ")
        await writer.drain()
        await asyncio.sleep(0.05)
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_no_address_is_no_server() -> None:
    with structlog.testing.capture_logs() as logs:
        async with metrics_endpoint("", "", _expose):
            pass
    assert logs == []
