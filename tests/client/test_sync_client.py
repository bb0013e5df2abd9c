"""The blocking client over a real socket."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.client.every_error import EVERY_ERROR, told
from tests.client.fake_daemon import VERSION, FakeDaemon

from sessiond.client import Client, InvalidInput, SessionUnavailable, UnsupportedFeature
from sessiond.client.transport import MESSAGE_BYTES
from sessiond.v1 import (
    context_pb2,
    errors,
    model_service_pb2,
    session_service_pb2,
    workspace_service_pb2,
)


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(daemon.socket) as connected:
        yield connected


def chunks(*texts: str) -> list[context_pb2.StreamChunk]:
    return [
        *(context_pb2.StreamChunk(text=text) for text in texts),
        context_pb2.StreamChunk(summary=context_pb2.DecodeSummary(generated_tokens=len(texts))),
    ]


def decoded(*texts: str) -> list[session_service_pb2.DecodeResponse]:
    return [session_service_pb2.DecodeResponse(chunk=chunk) for chunk in chunks(*texts)]


def completed(*texts: str) -> list[session_service_pb2.CompleteResponse]:
    return [
        session_service_pb2.CompleteResponse(prefix_status=context_pb2.PrefixStatus(prefix_tokens=9)),
        session_service_pb2.CompleteResponse(suffix_status=context_pb2.SuffixStatus(suffix_tokens=3)),
        *(session_service_pb2.CompleteResponse(chunk=chunk) for chunk in chunks(*texts)),
    ]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.reason)
def test_every_error_arrives_as_it_was_raised(
    client: Client, daemon: FakeDaemon, error: errors.SessiondError
) -> None:
    daemon.raises = error
    with pytest.raises(type(error)) as unary:
        client.sessions()
    assert told(unary.value) == told(error)
    with pytest.raises(type(error)) as first:
        next(client.session("1").decode())
    assert told(first.value) == told(error)


def test_an_error_in_the_middle_of_a_stream_comes_after_what_came_before(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["Decode"] = [*decoded("a", "b")]
    daemon.raises, daemon.raises_after = errors.SessionFatal("signal 6"), 2
    stream = client.session("1").decode()
    assert [next(stream).text, next(stream).text] == ["a", "b"]
    with pytest.raises(errors.SessionFatal):
        next(stream)


def test_a_long_detail_arrives_whole(client: Client, daemon: FakeDaemon) -> None:
    daemon.raises = errors.SessionFatal("x" * 30_000)
    with pytest.raises(errors.SessionFatal) as raised:
        client.sessions()
    assert len(raised.value.cause) == 30_000


def test_where_no_daemon_is_the_error_names_the_socket(short_path: Path) -> None:
    with Client(short_path / "none.sock") as client:
        with pytest.raises(SessionUnavailable, match=r"none\.sock"):
            client.sessions()
        with pytest.raises(SessionUnavailable, match=r"none\.sock"):
            next(client.session("1").decode())
        assert not client.healthy()


def test_a_daemon_that_starts_later_is_found(short_path: Path) -> None:
    with Client(short_path / "late.sock") as client:
        assert not client.healthy()
        with FakeDaemon(short_path / "late.sock"):
            until = time.monotonic() + 10
            while not client.healthy():
                assert time.monotonic() < until


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, errors.PermissionDenied),
        (grpc.StatusCode.CANCELLED, errors.SessionUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.SessionUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimeoutError),
        (grpc.StatusCode.UNIMPLEMENTED, UnsupportedFeature),
        (grpc.StatusCode.INTERNAL, errors.SessiondError),
    ],
)
def test_an_error_that_is_not_the_daemons_is_mapped_by_its_code(
    client: Client, daemon: FakeDaemon, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    daemon.aborts = (code, "words")
    with pytest.raises(kind) as raised:
        client.sessions()
    assert type(raised.value) is kind


def test_a_call_ends_at_its_timeout(client: Client, daemon: FakeDaemon) -> None:
    daemon.delay = 1.0
    with pytest.raises(TimeoutError):
        client.sessions(timeout=0.1)
    daemon.endless, daemon.answers["Decode"] = True, [*decoded("a")]
    with pytest.raises(TimeoutError):
        list(client.session("1").decode(timeout=0.2))


def test_a_clients_timeout_holds_for_calls_without_their_own(daemon: FakeDaemon) -> None:
    daemon.delay = 0.5
    with Client(daemon.socket, timeout=0.1) as client:
        with pytest.raises(TimeoutError):
            client.sessions()
        assert client.sessions(timeout=10) == []


def test_messages_may_have_128_mib(client: Client, daemon: FakeDaemon) -> None:
    client.tokenize("x" * (5 << 20))
    assert len(daemon.request().text) == 5 << 20
    daemon.answers["Detokenize"] = model_service_pb2.DetokenizeResponse(text="y" * (5 << 20))
    assert len(client.detokenize([1])) == 5 << 20
    with pytest.raises(InvalidInput, match="larger"):
        client.tokenize("x" * (MESSAGE_BYTES + 1))


def test_the_token_goes_with_unary_calls_streams_and_health(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIOND_TOKEN", "secret")
    with Client(daemon.socket) as client:
        client.sessions()
        assert daemon.metadata["authorization"] == "Bearer secret"
        list(client.session("1").decode())
        assert daemon.metadata["authorization"] == "Bearer secret"
    with Client(daemon.socket, token="") as client:
        client.sessions()
        assert "authorization" not in daemon.metadata


def test_tcp_works_as_the_socket_does(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Client(address=f"127.0.0.1:{daemon.port}") as client:
        assert client.sessions() == []


def test_health_says_the_state_and_the_version(client: Client, daemon: FakeDaemon) -> None:
    assert client.health() == ("SERVING", VERSION)
    daemon.health.set("", 2)
    assert client.health() == ("NOT_SERVING", VERSION)
    assert not client.healthy()


def test_a_session_goes_through_its_life(client: Client, daemon: FakeDaemon, tmp_path: Path) -> None:
    opened = session_service_pb2.Session(name="sessions/7", workspace_root=str(tmp_path))
    daemon.answers["OpenSession"] = session_service_pb2.OpenSessionResponse(session=opened, attached=True)
    session = client.open_session(tmp_path, model="m", key="k")
    assert (session.name, session.attached, session.opened) == ("sessions/7", True, opened)
    assert daemon.request().model == "m"
    daemon.answers["EnsurePrefix"] = session_service_pb2.EnsurePrefixResponse(
        status=context_pb2.PrefixStatus(prefix_tokens=4)
    )
    assert session.ensure_prefix(workspace=True).status.prefix_tokens == 4
    assert daemon.request().prefix.HasField("workspace")
    session.prefill_suffix(messages=[("user", "hi")])
    assert daemon.request().name == "sessions/7"
    daemon.answers["Decode"] = [*decoded("a", "b")]
    last = list(session.decode(max_tokens=2))
    assert [chunk.text for chunk in last] == ["a", "b", ""]
    assert last[-1].summary.generated_tokens == 2
    assert daemon.request().config.max_tokens == 2
    daemon.answers["ForkSession"] = session_service_pb2.ForkSessionResponse(
        session=session_service_pb2.Session(name="sessions/8")
    )
    assert session.fork("other").name == "sessions/8"
    assert session.info() == session_service_pb2.Session()
    assert session.explain() == context_pb2.ContextReport()
    assert session.save_snapshot("x.kv") == 0
    assert Path(daemon.request().path).is_absolute()
    session.close()


def test_ask_gives_text_and_takes_the_workspace_if_there_is_one(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = [*completed("Hel", "", "lo")]
    assert "".join(client.session("1").ask("why?")) == "Hello"
    request = daemon.request()
    assert not request.HasField("prefix")
    assert request.suffix.mode == context_pb2.SUFFIX_MODE_REPLACE
    assert request.suffix.messages.messages[0].role == "user"
    daemon.answers["OpenSession"] = session_service_pb2.OpenSessionResponse(
        session=session_service_pb2.Session(name="sessions/2", workspace_root="/w")
    )
    list(client.open_session("/w").ask("why?"))
    assert daemon.request().prefix.HasField("workspace")
    list(client.open_session("/w").ask("why?", workspace=False))
    assert not daemon.request().HasField("prefix")


def test_complete_gives_every_event(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["Complete"] = [*completed("a")]
    events = list(client.session("1").complete("b", prefix="p", seed=1))
    assert [event.WhichOneof("event") for event in events] == [
        "prefix_status",
        "suffix_status",
        "chunk",
        "chunk",
    ]
    assert daemon.request().prefix.text == "p"


@pytest.mark.parametrize("way", ["close", "with", "drop", "break"])
def test_an_abandoned_stream_is_cancelled(client: Client, daemon: FakeDaemon, way: str) -> None:
    daemon.endless, daemon.answers["Decode"] = True, [*decoded("a")]
    session = client.session("1")
    if way == "close":
        stream = session.decode()
        next(stream)
        stream.close()
        assert list(stream) == []
    elif way == "with":
        with session.decode() as stream:
            next(stream)
    elif way == "drop":
        stream = session.decode()
        next(stream)
        del stream
    else:
        for _ in session.decode():
            break
    gc.collect()
    assert daemon.cancelled.wait(5)


def test_a_stream_closed_by_another_thread_ends(client: Client, daemon: FakeDaemon) -> None:
    daemon.endless, daemon.answers["WatchSession"] = True, [session_service_pb2.WatchSessionResponse()]
    watch = client.session("1").watch()
    threading.Timer(0.1, watch.close).start()
    assert all(isinstance(event, session_service_pb2.SessionEvent) for event in watch)


def test_a_closed_client_says_so(daemon: FakeDaemon) -> None:
    client = Client(daemon.socket)
    session = client.session("1")
    client.close()
    with pytest.raises(SessionUnavailable):
        session.info()
    with pytest.raises(SessionUnavailable):
        next(session.decode())


def test_the_other_services_are_spoken_to(client: Client, daemon: FakeDaemon) -> None:
    client.models()
    client.model("m")
    client.embed(["a", "b"])
    assert list(daemon.request().texts) == ["a", "b"]
    client.define_function("f", "body", examples=[("1", "one")])
    assert daemon.request().examples[0].value == "one"
    client.functions()
    list(client.call_function("f", "x"))
    list(client.map_function("f", ["x", "y"]))
    assert list(daemon.request().arguments) == ["x", "y"]
    client.delete_function("f")


def test_a_workspace_is_spoken_to_by_its_root(
    client: Client, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = client.workspace("w")
    assert workspace.root == str(tmp_path / "w")
    assert daemon.requests == []
    assert workspace.get() == workspace_service_pb2.GetWorkspaceResponse()
    workspace.pin("a.py", "b.py")
    assert list(daemon.request().paths) == ["a.py", "b.py"]
    workspace.unpin("a.py")
    assert list(daemon.request().paths) == ["a.py"]
    workspace.set_buffer("a.py", "text")
    assert (daemon.request().path, daemon.request().text) == ("a.py", "text")
    workspace.release_buffer("a.py")
    assert daemon.request().path == "a.py"
    assert {asked.workspace_root for asked in daemon.requests} == {str(tmp_path / "w")}
    assert [type(asked).__name__.removesuffix("Request") for asked in daemon.requests] == [
        "GetWorkspace",
        "PinFiles",
        "UnpinFiles",
        "SetBuffer",
        "ReleaseBuffer",
    ]
    with pytest.raises(InvalidInput) as caught:
        workspace.pin("a\ud800")
    assert [violation.field for violation in caught.value.violations] == ["paths"]
