"""The client for asyncio: one connection to a daemon, and what can be asked of it without a session."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from sessiond.client import requests
from sessiond.client.aio.function import AsyncFunction
from sessiond.client.aio.link import Link
from sessiond.client.aio.prompts import AsyncPrompts
from sessiond.client.aio.session import AsyncSession
from sessiond.client.aio.stream import AsyncStream
from sessiond.client.aio.workspace import AsyncWorkspace
from sessiond.client.calls import functions, health, models, sessions
from sessiond.client.endpoint import resolve_endpoint
from sessiond.client.prompts.answers import Answer
from sessiond.client.prompts.prompt import Prompt
from sessiond.client.requests import DecodeSettings, FreeSettings
from sessiond.client.tls import Tls
from sessiond.client.transport import version_in
from sessiond.client.values import Schema, config_of
from sessiond.v1 import (
    config_pb2,
    context_pb2,
    function_service_pb2,
    model_service_pb2,
    session_service_pb2,
)
from sessiond.v1.errors import SessionUnavailable

Choice = TypeVar("Choice", bound=str)


class AsyncClient:
    """A connection to one daemon: a Unix socket's path, or an `address` host:port.

    Where neither is given, SESSIOND_SOCKET, `client.toml` and the default path count, in this order. `token` defaults
    to SESSIOND_TOKEN. An address is spoken to with TLS if `tls` is given, or SESSIOND_TLS_CA with the path of an
    authority. `timeout` (seconds) holds for calls that give none of their own. Connecting happens at the first call.
    Raises InvalidInput for a malformed endpoint.
    """

    def __init__(
        self,
        socket: requests.PathLike | None = None,
        address: str | None = None,
        token: str | None = None,
        *,
        tls: Tls | None = None,
        timeout: float | None = None,
    ) -> None:
        self.endpoint = resolve_endpoint(socket, address, token, tls=tls)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that run raise SessionUnavailable. Sessions live on in the daemon."""
        if "_link" in self.__dict__:
            await self._link.close()

    @functools.cached_property
    def _link(self) -> Link:
        # Late, because a channel belongs to the event loop that runs when it is made.
        return Link(self.endpoint, self._timeout)

    # ---- the daemon ------------------------------------------------------------------------------------------

    async def healthy(self, *, timeout: float | None = 5.0) -> bool:
        """Whether a daemon answers and says that it is serving."""
        try:
            return await self._link.unary(health.check(), timeout) == health.SERVING
        except (SessionUnavailable, TimeoutError):
            return False

    async def health(self, *, timeout: float | None = 5.0) -> tuple[str, str]:
        """The daemon's state, "SERVING" or "NOT_SERVING", and its version if it says so, else ""."""
        state, metadata = await self._link.unary_with_metadata(health.check(), timeout)
        return state, version_in(metadata)

    # ---- sessions --------------------------------------------------------------------------------------------

    async def open_session(
        self,
        workspace_root: requests.PathLike | None = None,
        model: str = "",
        key: str = "",
        config: config_pb2.Config | None = None,
        *,
        timeout: float | None = None,
    ) -> AsyncSession:
        """Open a session, or attach to the live one of the same root, model, key and config. A relative root counts
        from the current folder; without one the session has no workspace.
        """
        answer = await self._link.unary(sessions.open_session(workspace_root, model, key, config), timeout)
        return AsyncSession(self._link, answer.session.name, answer.session, attached=answer.attached)

    def session(self, name: str) -> AsyncSession:
        """The session of this name, `sessions/{id}` or its id alone. Asks the daemon nothing yet."""
        return AsyncSession(self._link, requests.session_name(name))

    async def sessions(self, *, timeout: float | None = None) -> list[session_service_pb2.Session]:
        """All sessions, oldest first."""
        return await self._link.unary(sessions.list_sessions(), timeout)

    # ---- prompts ---------------------------------------------------------------------------------------------

    def prompts(
        self,
        *,
        workspace_root: requests.PathLike | None = None,
        model: str = "",
        config: config_pb2.Config | None = None,
        at_once: int = 4,
    ) -> AsyncPrompts:
        """What answers prompts that are values, over sessions of these settings; `at_once` answers side by side. Asks the
        daemon nothing yet. Raises InvalidInput.
        """
        return AsyncPrompts(
            self._link, workspace_root=workspace_root, model=model, config=config, at_once=at_once
        )

    async def run(
        self,
        prompts: Iterable[Prompt | str],
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> list[Answer]:
        """The answers to some prompts, in the order given, with the daemon's default model: what they share is computed once.
        Nothing of it is kept; see `prompts`.
        """
        return await self.prompts().run(prompts, config, timeout=timeout, **settings)

    # ---- models ----------------------------------------------------------------------------------------------

    async def models(self, *, timeout: float | None = None) -> list[model_service_pb2.ModelFile]:
        """The models that could be loaded."""
        return await self._link.unary(models.list_models(), timeout)

    async def model(self, name: str = "", *, timeout: float | None = None) -> model_service_pb2.Model:
        """One model, the daemon's default if unnamed. Loads it if need be."""
        return await self._link.unary(models.get_model(name), timeout)

    async def runtime(
        self, *, support: bool = False, timeout: float | None = None
    ) -> model_service_pb2.GetRuntimeResponse:
        """How the loaded models run, why so, what memory their KV takes, and what was done; with `support` also what a
        support bundle needs. Loads nothing.
        """
        return await self._link.unary(models.get_runtime(support), timeout)

    async def tokenize(
        self,
        text: str,
        *,
        model: str = "",
        parse_special: bool = False,
        add_bos: bool = False,
        timeout: float | None = None,
    ) -> model_service_pb2.TokenizeResponse:
        """The tokens of a text and their bytes."""
        return await self._link.unary(models.tokenize(text, model, parse_special, add_bos), timeout)

    async def detokenize(
        self, token_ids: Iterable[int], *, model: str = "", timeout: float | None = None
    ) -> str:
        """The text of tokens; bytes that are not UTF-8 stand as U+FFFD."""
        return await self._link.unary(models.detokenize(token_ids, model), timeout)

    async def embed(
        self,
        texts: Iterable[str],
        *,
        model: str = "",
        normalize: bool = False,
        timeout: float | None = None,
    ) -> list[model_service_pb2.Embedding]:
        """One vector for each text, in order, as the model makes it; with `normalize` of length 1."""
        return await self._link.unary(models.embed(texts, model, normalize), timeout)

    # ---- workspaces ------------------------------------------------------------------------------------------

    def workspace(self, root: requests.PathLike) -> AsyncWorkspace:
        """The workspace at this root; a relative one counts from the current folder. Asks the daemon nothing yet."""
        return AsyncWorkspace(self._link, requests.absolute(root))

    # ---- functions -------------------------------------------------------------------------------------------

    @overload
    async def function(
        self,
        name: str,
        body: str,
        *,
        choices: Iterable[Choice],
        examples: Iterable[tuple[str, str]] = (),
        model: str = "",
        session_config: config_pb2.Config | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[FreeSettings],
    ) -> AsyncFunction[Choice]: ...

    @overload
    async def function(
        self,
        name: str,
        body: str,
        *,
        json_schema: Schema,
        examples: Iterable[tuple[str, str]] = (),
        model: str = "",
        session_config: config_pb2.Config | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[FreeSettings],
    ) -> AsyncFunction[Any]: ...

    @overload
    async def function(
        self,
        name: str,
        body: str,
        *,
        examples: Iterable[tuple[str, str]] = (),
        model: str = "",
        session_config: config_pb2.Config | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[FreeSettings],
    ) -> AsyncFunction[str]: ...

    async def function(
        self,
        name: str,
        body: str,
        *,
        choices: Iterable[str] | None = None,
        json_schema: Schema | None = None,
        examples: Iterable[tuple[str, str]] = (),
        model: str = "",
        session_config: config_pb2.Config | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[FreeSettings],
    ) -> AsyncFunction[Any]:
        """A prompt as a function, defined in the daemon: its value is an answer to its argument, after the body as the message
        of the system.

            classify = await client.function("classify", "Say what this is.", choices=["bug", "feature"])
            await classify("It crashes.")  # "bug"

        With `choices` a value is one of them, with a `json_schema` what the answer describes, else a str. `examples` are
        arguments with their values; `session_config` is what it runs with, as of a session. To define it as it is costs nothing.
        """
        chosen = config_of(config, choices, json_schema, settings)
        defined = await self.define_function(
            name,
            body,
            config=chosen,
            examples=examples,
            model=model,
            session_config=session_config,
            timeout=timeout,
        )
        return AsyncFunction(self._link, defined)

    async def define_function(
        self,
        name: str,
        body: str,
        *,
        config: config_pb2.DecodeConfig | None = None,
        examples: Iterable[tuple[str, str]] = (),
        model: str = "",
        session_config: config_pb2.Config | None = None,
        timeout: float | None = None,
    ) -> function_service_pb2.Function:
        """Define a function, or replace the one of this name. `examples` are arguments with their values; `session_config`
        is what it runs with, as of a session.
        """
        return await self._link.unary(
            functions.define_function(name, body, config, examples, model, session_config), timeout
        )

    async def functions(self, *, timeout: float | None = None) -> list[function_service_pb2.Function]:
        """All functions, by name."""
        return await self._link.unary(functions.list_functions(), timeout)

    async def delete_function(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a function."""
        await self._link.unary(functions.delete_function(name), timeout)

    def call_function(
        self, name: str, argument: str, *, timeout: float | None = None
    ) -> AsyncStream[context_pb2.StreamChunk]:
        """Call a function with one argument."""
        return self._link.stream(functions.call_function(name, argument), timeout)

    def map_function(
        self, name: str, arguments: Iterable[str], *, timeout: float | None = None
    ) -> AsyncStream[function_service_pb2.MapFunctionResponse]:
        """Call a function with many arguments, side by side; each answer comes as it ends."""
        return self._link.stream(functions.map_function(name, arguments), timeout)
