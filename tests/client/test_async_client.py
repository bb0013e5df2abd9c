"""The client for asyncio over a real socket."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from tests.client.every_error import EVERY_ERROR, told
from tests.client.fake_daemon import VERSION, FakeDaemon

from sessiond.client import AsyncClient, AsyncSession, Client, InvalidInput, Session, SessionUnavailable
from sessiond.client.transport import MESSAGE_BYTES
from sessiond.v1 import context_pb2, errors, session_service_pb2


@pytest_asyncio.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.socket) as connected:
        yield connected


def decoded(*texts: str) -> list[session_service_pb2.DecodeResponse]:
    return [session_service_pb2.DecodeResponse(chunk=context_pb2.StreamChunk(text=text)) for text in texts]


async def gone(daemon: FakeDaemon) -> bool:
    return await asyncio.to_thread(daemon.cancelled.wait, 5)


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Session, AsyncSession)])
def test_both_faces_have_the_same_methods_and_arguments(one: type, other: type) -> None:
    def face(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert face(one) == face(other)


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.reason)
async def test_every_error_arrives_as_it_was_raised(
    client: AsyncClient, daemon: FakeDaemon, error: errors.SessiondError
) -> None:
    daemon.raises = error
    with pytest.raises(type(error)) as unary:
        await client.sessions()
    assert told(unary.value) == told(error)
    with pytest.raises(type(error)) as first:
        await anext(client.session("1").decode())
    assert told(first.value) == told(error)


async def test_an_error_in_the_middle_of_a_stream_comes_after_what_came_before(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["Decode"] = [*decoded("a", "b", "c")]
    daemon.raises, daemon.raises_after = errors.SessionFatal("signal 6"), 2
    stream = client.session("1").decode()
    assert [(await anext(stream)).text, (await anext(stream)).text] == ["a", "b"]
    with pytest.raises(errors.SessionFatal):
        await anext(stream)


async def test_where_no_daemon_is_the_error_names_the_socket(short_path: Path) -> None:
    async with AsyncClient(short_path / "none.sock") as client:
        with pytest.raises(SessionUnavailable, match=r"none\.sock"):
            await client.sessions()
        assert not await client.healthy()


async def test_a_cancel_that_is_not_ours_is_no_cancelled_error(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.aborts = (grpc.StatusCode.CANCELLED, "words")
    with pytest.raises(SessionUnavailable):
        await client.sessions()
    with pytest.raises(SessionUnavailable):
        await anext(client.session("1").decode())


async def test_a_call_ends_at_its_timeout(client: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.delay = 1.0
    with pytest.raises(TimeoutError):
        await client.sessions(timeout=0.1)
    daemon.endless, daemon.answers["Decode"] = True, [*decoded("a")]
    with pytest.raises(TimeoutError):
        async for _ in client.session("1").decode(timeout=0.2):
            pass


async def test_messages_may_have_128_mib(client: AsyncClient, daemon: FakeDaemon) -> None:
    await client.tokenize("x" * (5 << 20))
    assert len(daemon.request().text) == 5 << 20
    with pytest.raises(InvalidInput, match="larger"):
        await client.tokenize("x" * (MESSAGE_BYTES + 1))


async def test_the_token_goes_with_every_call(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.socket, token="secret") as client:
        await client.sessions()
        assert daemon.metadata["authorization"] == "Bearer secret"


async def test_health_says_the_state_and_the_version(client: AsyncClient) -> None:
    assert await client.health() == ("SERVING", VERSION)


async def test_cancelling_a_task_cancels_its_call(client: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.endless, daemon.answers["Decode"] = True, [*decoded("a")]

    async def read() -> None:
        async for _ in client.session("1").decode():
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(daemon)


@pytest.mark.parametrize("way", ["aclose", "with", "drop", "break"])
async def test_an_abandoned_stream_is_cancelled(client: AsyncClient, daemon: FakeDaemon, way: str) -> None:
    daemon.endless, daemon.answers["Decode"] = True, [*decoded("a")]
    session = client.session("1")
    if way == "aclose":
        stream = session.decode()
        await anext(stream)
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
    elif way == "with":
        async with session.decode() as stream:
            await anext(stream)
    elif way == "drop":
        stream = session.decode()
        await anext(stream)
        del stream
    else:
        async for _ in session.decode():
            break
    gc.collect()
    assert await gone(daemon)


@pytest.mark.parametrize("what", ["unary", "stream"])
async def test_a_client_that_is_closed_says_so(daemon: FakeDaemon, what: str) -> None:
    daemon.endless, daemon.answers["Decode"], daemon.stuck = True, [*decoded("a")], "ListSessions"
    client = AsyncClient(daemon.socket)
    begun = asyncio.Event()

    async def reading() -> None:
        async for _ in client.session("1").decode():
            begun.set()

    calling = asyncio.create_task(client.sessions() if what == "unary" else reading())
    if what == "stream":
        await begun.wait()
    await asyncio.sleep(0)  # the call has begun
    await client.close()
    with pytest.raises(SessionUnavailable):
        await asyncio.wait_for(calling, 20)
    with pytest.raises(SessionUnavailable):
        await client.sessions()
    with pytest.raises(SessionUnavailable):
        await anext(client.session("1").decode())


async def test_the_turns_are_those_of_the_blocking_client(client: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.answers["OpenSession"] = session_service_pb2.OpenSessionResponse(
        session=session_service_pb2.Session(name="sessions/2", workspace_root="/w")
    )
    session = await client.open_session("/w")
    daemon.answers["Complete"] = [
        session_service_pb2.CompleteResponse(prefix_status=context_pb2.PrefixStatus()),
        session_service_pb2.CompleteResponse(chunk=context_pb2.StreamChunk(text="Hel")),
        session_service_pb2.CompleteResponse(chunk=context_pb2.StreamChunk(text="lo")),
    ]
    assert [text async for text in session.ask("why?")] == ["Hel", "lo"]
    assert daemon.request().prefix.HasField("workspace")
    assert len([event async for event in session.complete("x", prefix="p")]) == 3
    await session.ensure_prefix(segments=[("a", "A")])
    await session.prefill_suffix(fim=("a", "b"))
    assert daemon.request().suffix.fim.before == "a"
    assert await session.explain() == context_pb2.ContextReport()
    await session.info()
    await session.close()
    workspace = client.workspace("/w")
    await workspace.get()
    await workspace.pin("a.py", "b.py")
    assert list(daemon.request().paths) == ["a.py", "b.py"]
    await workspace.unpin("a.py")
    await workspace.set_buffer("a.py", "x")
    await workspace.release_buffer("a.py")
    assert (daemon.request().workspace_root, daemon.request().path) == ("/w", "a.py")
    await client.define_function("f", "body")
    assert [chunk async for chunk in client.call_function("f", "x")] == [context_pb2.StreamChunk()]
