"""The blocking client.

Every call raises the exceptions of `sessiond.v1.errors`, and TimeoutError once its `timeout` has passed: seconds, for
a stream until its end; None is no limit. A client may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

import grpc
from grpc_health.v1 import health_pb2

from sessiond.client import answers, requests
from sessiond.client.endpoint import Endpoint, resolve_endpoint
from sessiond.client.failures import exception_of
from sessiond.client.requests import DecodeSettings
from sessiond.client.transport import HEALTH_CHECK, OPTIONS, VERSION_KEY, call_metadata
from sessiond.v1 import (
    config_pb2,
    context_pb2,
    function_service_pb2,
    function_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from sessiond.v1.errors import SessionUnavailable

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Part = TypeVar("Part")
Part_co = TypeVar("Part_co", covariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class _Call(Protocol[Answer_co]):
    """What a running stream of gRPC can do."""

    def __next__(self) -> Answer_co: ...

    def cancel(self) -> bool: ...


class Stream(Iterator[Part_co], Generic[Part_co]):
    """The parts of an answer as they come. The call runs from the start; closing or dropping the stream cancels it."""

    def __init__(
        self, call: _Call[Answer], pick: Callable[[Answer], Part_co | None], endpoint: Endpoint
    ) -> None:
        self._call: _Call[Any] = call
        self._pick: Callable[[Any], Part_co | None] = pick
        self._endpoint = endpoint
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Part_co:
        while True:
            try:
                answer = next(self._call)
            except grpc.RpcError as error:
                if self._closed:  # what is read here is our own cancelling
                    raise StopIteration from None
                raise exception_of(error, self._endpoint) from error
            part = self._pick(answer)
            if part is not None:
                return part

    def close(self) -> None:
        """Cancel the call if it still runs, and end the stream. May be called from another thread."""
        self._closed = True
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class _Link:
    """One channel, and the only place that makes calls on it."""

    def __init__(self, endpoint: Endpoint, timeout: float | None) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._metadata = call_metadata(endpoint)
        self.channel = grpc.insecure_channel(endpoint.target, OPTIONS)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(self.channel)
        self.functions = function_service_pb2_grpc.FunctionServiceStub(self.channel)
        # By hand, because the health package's stub has no types.
        self._health: grpc.UnaryUnaryMultiCallable[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ] = self.channel.unary_unary(
            HEALTH_CHECK,
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None,
    ) -> Answer:
        """One call with one answer."""
        try:
            return method(request, timeout=self._within(timeout), metadata=self._metadata)
        except grpc.RpcError as error:
            raise exception_of(error, self.endpoint) from error

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None,
        pick: Callable[[Answer], Part | None],
    ) -> Stream[Part]:
        """One call with many answers; of each the part that `pick` takes, unless it is None."""
        call = method(request, timeout=self._within(timeout), metadata=self._metadata)
        return Stream(call, pick, self.endpoint)

    def health(self, timeout: float | None) -> tuple[health_pb2.HealthCheckResponse, str]:
        """What the health service says, and the version that the daemon gives with it, or ""."""
        try:
            answer, call = self._health.with_call(
                health_pb2.HealthCheckRequest(service=""),
                timeout=self._within(timeout),
                metadata=self._metadata,
            )
        except grpc.RpcError as error:
            raise exception_of(error, self.endpoint) from error
        versions = [str(value) for key, value in call.initial_metadata() if key == VERSION_KEY]
        return answer, "".join(versions[:1])

    def _within(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout


class Client:
    """A connection to one daemon: a Unix socket's path, or an `address` host:port.

    Where neither is given, SESSIOND_SOCKET, `client.toml` and the default path count, in this order. `token` defaults
    to SESSIOND_TOKEN. `timeout` (seconds) holds for calls that give none of their own. Connecting happens at the first
    call. Raises InvalidInput for a malformed endpoint.
    """

    def __init__(
        self,
        socket: requests.PathLike | None = None,
        address: str | None = None,
        token: str | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        self.endpoint = resolve_endpoint(socket, address, token)
        self._link = _Link(self.endpoint, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; running calls are cancelled. Sessions live on in the daemon."""
        self._link.channel.close()

    # ---- the daemon ------------------------------------------------------------------------------------------

    def healthy(self, *, timeout: float | None = 5.0) -> bool:
        """Whether a daemon answers and says that it is serving."""
        try:
            answer, _ = self._link.health(timeout)
        except (SessionUnavailable, TimeoutError):
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def health(self, *, timeout: float | None = 5.0) -> tuple[str, str]:
        """The daemon's state, "SERVING" or "NOT_SERVING", and its version if it says so, else ""."""
        answer, version = self._link.health(timeout)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), version

    # ---- sessions --------------------------------------------------------------------------------------------

    def open_session(
        self,
        workspace_root: requests.PathLike | None = None,
        model: str = "",
        key: str = "",
        config: config_pb2.Config | None = None,
        *,
        timeout: float | None = None,
    ) -> Session:
        """Open a session, or attach to the live one of the same root, model, key and config. A relative root counts
        from the current folder; without one the session has no workspace.
        """
        request = requests.open_session(workspace_root, model, key, config)
        answer = self._link.unary(self._link.sessions.OpenSession, request, timeout)
        return Session(self._link, answer.session.name, answer.session, attached=answer.attached)

    def session(self, name: str) -> Session:
        """The session of this name, `sessions/{id}` or its id alone. Asks the daemon nothing yet."""
        return Session(self._link, requests.session_name(name))

    def sessions(self, *, timeout: float | None = None) -> list[session_service_pb2.Session]:
        """All sessions, oldest first."""
        request = session_service_pb2.ListSessionsRequest()
        return list(self._link.unary(self._link.sessions.ListSessions, request, timeout).sessions)

    # ---- models ----------------------------------------------------------------------------------------------

    def models(self, *, timeout: float | None = None) -> list[model_service_pb2.ModelFile]:
        """The models that could be loaded."""
        request = model_service_pb2.ListModelsRequest()
        return list(self._link.unary(self._link.models.ListModels, request, timeout).models)

    def model(self, name: str = "", *, timeout: float | None = None) -> model_service_pb2.Model:
        """One model, the daemon's default if unnamed. Loads it if need be."""
        return self._link.unary(self._link.models.GetModel, requests.model(name), timeout).model

    def tokenize(
        self,
        text: str,
        *,
        model: str = "",
        parse_special: bool = False,
        add_bos: bool = False,
        timeout: float | None = None,
    ) -> model_service_pb2.TokenizeResponse:
        """The tokens of a text and their bytes."""
        request = requests.tokenize(text, model, parse_special, add_bos)
        return self._link.unary(self._link.models.Tokenize, request, timeout)

    def detokenize(self, token_ids: Iterable[int], *, model: str = "", timeout: float | None = None) -> str:
        """The text of tokens; bytes that are not UTF-8 stand as U+FFFD."""
        request = requests.detokenize(token_ids, model)
        return self._link.unary(self._link.models.Detokenize, request, timeout).text

    def embed(
        self, texts: Iterable[str], *, model: str = "", timeout: float | None = None
    ) -> list[model_service_pb2.Embedding]:
        """One vector for each text, in order."""
        request = requests.embed(texts, model)
        return list(self._link.unary(self._link.models.Embed, request, timeout).embeddings)

    # ---- workspaces ------------------------------------------------------------------------------------------

    def workspace(
        self, root: requests.PathLike, *, timeout: float | None = None
    ) -> workspace_service_pb2.GetWorkspaceResponse:
        """What the assembly of a workspace holds, and what an edit would cost."""
        return self._link.unary(self._link.workspaces.GetWorkspace, requests.workspace(root), timeout)

    def pin_files(
        self, root: requests.PathLike, paths: Iterable[str], *, timeout: float | None = None
    ) -> None:
        """Put files, relative to the root, into the prefix whatever the order and the budget say."""
        self._link.unary(self._link.workspaces.PinFiles, requests.pin_files(root, paths), timeout)

    def unpin_files(
        self, root: requests.PathLike, paths: Iterable[str], *, timeout: float | None = None
    ) -> None:
        """Take pins back."""
        self._link.unary(self._link.workspaces.UnpinFiles, requests.unpin_files(root, paths), timeout)

    def set_buffer(
        self, root: requests.PathLike, path: str, text: str, *, timeout: float | None = None
    ) -> None:
        """Give an unsaved buffer: it wins over its file until it is saved or released."""
        self._link.unary(self._link.workspaces.SetBuffer, requests.set_buffer(root, path, text), timeout)

    def release_buffer(self, root: requests.PathLike, path: str, *, timeout: float | None = None) -> None:
        """Take a buffer back."""
        self._link.unary(self._link.workspaces.ReleaseBuffer, requests.release_buffer(root, path), timeout)

    # ---- functions -------------------------------------------------------------------------------------------

    def define_function(
        self,
        name: str,
        body: str,
        *,
        config: config_pb2.DecodeConfig | None = None,
        examples: Iterable[tuple[str, str]] = (),
        timeout: float | None = None,
    ) -> function_service_pb2.Function:
        """Define a function, or replace the one of this name. `examples` are arguments with their values."""
        request = requests.define_function(name, body, config, examples)
        return self._link.unary(self._link.functions.DefineFunction, request, timeout).function

    def functions(self, *, timeout: float | None = None) -> list[function_service_pb2.Function]:
        """All functions, by name."""
        request = function_service_pb2.ListFunctionsRequest()
        return list(self._link.unary(self._link.functions.ListFunctions, request, timeout).functions)

    def delete_function(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a function."""
        self._link.unary(self._link.functions.DeleteFunction, requests.delete_function(name), timeout)

    def call_function(
        self, name: str, argument: str, *, timeout: float | None = None
    ) -> Stream[context_pb2.StreamChunk]:
        """Call a function with one argument."""
        request = requests.call_function(name, argument)
        return self._link.stream(self._link.functions.CallFunction, request, timeout, answers.chunk_of_call)

    def map_function(
        self, name: str, arguments: Iterable[str], *, timeout: float | None = None
    ) -> Stream[function_service_pb2.MapFunctionResponse]:
        """Call a function with many arguments, side by side; each answer comes as it ends."""
        request = requests.map_function(name, arguments)
        return self._link.stream(self._link.functions.MapFunction, request, timeout, answers.whole)


class Session:
    """One session of the daemon, by name. It lives in the daemon: dropping this object ends nothing, `close` does.

    `opened` is what the daemon said when it was opened, None for a session got by its name; `attached` whether it was
    live already then.
    """

    def __init__(
        self,
        link: _Link,
        name: str,
        opened: session_service_pb2.Session | None = None,
        *,
        attached: bool = False,
    ) -> None:
        self._link = link
        self.name = name
        self.opened = opened
        self.attached = attached

    def __repr__(self) -> str:
        return f"Session({self.name!r})"

    def info(self, *, timeout: float | None = None) -> session_service_pb2.Session:
        """The session as it is now."""
        request = session_service_pb2.GetSessionRequest(name=self.name)
        return self._link.unary(self._link.sessions.GetSession, request, timeout).session

    def ensure_prefix(
        self,
        text: str | None = None,
        *,
        segments: Iterable[requests.SegmentLike] | None = None,
        workspace: requests.WorkspaceLike = False,
        expect: context_pb2.ContextManifest | None = None,
        timeout: float | None = None,
    ) -> session_service_pb2.EnsurePrefixResponse:
        """Bring the prefix to a text, to ordered segments, or to the workspace's assembly, computing only what is not
        resident. With none of them the prefix becomes empty.
        """
        prefix = requests.prefix_input(text, segments=segments, workspace=workspace, expect=expect)
        request = requests.ensure_prefix(self.name, prefix)
        return self._link.unary(self._link.sessions.EnsurePrefix, request, timeout)

    def prefill_suffix(
        self,
        text: str | None = None,
        *,
        messages: Iterable[requests.MessageLike] | None = None,
        fim: requests.FimLike | None = None,
        mode: requests.Mode | None = None,
        expect: context_pb2.ContextManifest | None = None,
        timeout: float | None = None,
    ) -> session_service_pb2.PrefillSuffixResponse:
        """Add a suffix: a text, messages, or the texts around a cursor."""
        suffix = requests.suffix_input(text, messages=messages, fim=fim, mode=mode, expect=expect)
        request = requests.prefill_suffix(self.name, suffix)
        return self._link.unary(self._link.sessions.PrefillSuffix, request, timeout)

    def decode(
        self,
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> Stream[context_pb2.StreamChunk]:
        """Generate text after all that is resident; the last chunk carries the summary. `settings` win over `config`."""
        request = requests.decode(self.name, config, settings)
        return self._link.stream(self._link.sessions.Decode, request, timeout, answers.chunk_of_decode)

    def complete(
        self,
        text: str | None = None,
        *,
        messages: Iterable[requests.MessageLike] | None = None,
        fim: requests.FimLike | None = None,
        mode: requests.Mode | None = None,
        expect: context_pb2.ContextManifest | None = None,
        prefix: requests.PrefixLike | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> Stream[session_service_pb2.CompleteResponse]:
        """One atomic turn: the prefix if one is given (a text or `prefix_input(...)`), the suffix, the answer."""
        suffix = requests.suffix_input(text, messages=messages, fim=fim, mode=mode, expect=expect)
        request = requests.complete(self.name, prefix, suffix, config, settings)
        return self._link.stream(self._link.sessions.Complete, request, timeout, answers.whole)

    def ask(
        self,
        text: str,
        *,
        workspace: requests.WorkspaceLike | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> Stream[str]:
        """The answer to a question that stands alone after the prefix, as text. `workspace` None takes the workspace as
        the prefix if the session was opened with one, and leaves the prefix as it is otherwise.
        """
        if workspace is None:
            workspace = self.opened is not None and bool(self.opened.workspace_root)
        request = requests.ask(self.name, text, workspace, config, settings)
        return self._link.stream(self._link.sessions.Complete, request, timeout, answers.text_of)

    def explain(self, *, timeout: float | None = None) -> context_pb2.ContextReport:
        """What is resident and why. Answers at once, also while the session works."""
        request = session_service_pb2.ExplainContextRequest(name=self.name)
        return self._link.unary(self._link.sessions.ExplainContext, request, timeout).report

    def watch(self, *, timeout: float | None = None) -> Stream[session_service_pb2.SessionEvent]:
        """What happens to the session, from now until it is closed."""
        request = session_service_pb2.WatchSessionRequest(name=self.name)
        return self._link.stream(self._link.sessions.WatchSession, request, timeout, answers.event_of)

    def fork(self, key: str = "", *, timeout: float | None = None) -> Session:
        """A second session that shares all that is resident of this one."""
        request = requests.fork(self.name, key)
        answer = self._link.unary(self._link.sessions.ForkSession, request, timeout)
        return Session(self._link, answer.session.name, answer.session)

    def save_snapshot(self, path: requests.PathLike, *, timeout: float | None = None) -> int:
        """Write the context with its KV to a file on the daemon's machine. Returns the bytes written."""
        request = requests.save_snapshot(self.name, path)
        return self._link.unary(self._link.sessions.SaveSnapshot, request, timeout).size_bytes

    def restore_snapshot(
        self, path: requests.PathLike, *, timeout: float | None = None
    ) -> session_service_pb2.Session:
        """Read the context with its KV from a file on the daemon's machine."""
        request = requests.restore_snapshot(self.name, path)
        return self._link.unary(self._link.sessions.RestoreSnapshot, request, timeout).session

    def close(self, *, timeout: float | None = None) -> session_service_pb2.Session:
        """Close the session in the daemon and free what it holds. A running turn is cancelled."""
        request = session_service_pb2.CloseSessionRequest(name=self.name)
        return self._link.unary(self._link.sessions.CloseSession, request, timeout).session
