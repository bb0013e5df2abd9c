"""One session of the daemon, for the blocking client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

from sessiond.client import requests
from sessiond.client.calls import sessions
from sessiond.client.requests import DecodeSettings
from sessiond.client.sync.link import Link
from sessiond.client.sync.stream import Stream
from sessiond.v1 import config_pb2, context_pb2, session_service_pb2


class Session:
    """One session of the daemon, by name. It lives in the daemon: dropping this object ends nothing, `close` does.

    `opened` is what the daemon said when it was opened, None for a session got by its name; `attached` whether it was
    live already then.
    """

    def __init__(
        self,
        link: Link,
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
        return self._link.unary(sessions.get_session(self.name), timeout)

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
        return self._link.unary(sessions.ensure_prefix(self.name, prefix), timeout)

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
        return self._link.unary(sessions.prefill_suffix(self.name, suffix), timeout)

    def decode(
        self,
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> Stream[context_pb2.StreamChunk]:
        """Generate text after all that is resident; the last chunk carries the summary. `settings` win over `config`."""
        return self._link.stream(sessions.decode(self.name, config, settings), timeout)

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
        return self._link.stream(sessions.complete(self.name, prefix, suffix, config, settings), timeout)

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
        return self._link.stream(
            sessions.ask(self.name, self.opened, text, workspace, config, settings), timeout
        )

    def score(
        self, continuations: Iterable[str], *, timeout: float | None = None
    ) -> session_service_pb2.ScoreResponse:
        """How likely each of these texts is as what comes next, after all that the session is. It stays as it is."""
        return self._link.unary(sessions.score(self.name, continuations), timeout)

    def fill(
        self,
        before: str,
        after: str = "",
        *,
        path: str = "",
        suffix_first: bool = False,
        workspace: requests.WorkspaceLike | None = None,
        config: config_pb2.DecodeConfig | None = None,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> Stream[str]:
        """What stands between two texts, as the model fills it in. They stand alone after the prefix, and what does not fit is
        cut far from the cursor. `path`, `suffix_first`: see `FimInput`; `workspace`: see `ask`.
        """
        fim = requests.fim_input(before, after, path, suffix_first=suffix_first)
        return self._link.stream(
            sessions.fill(self.name, self.opened, fim, workspace, config, settings), timeout
        )

    def explain(self, *, timeout: float | None = None) -> context_pb2.ContextReport:
        """What is resident and why. Answers at once, also while the session works."""
        return self._link.unary(sessions.explain_context(self.name), timeout)

    def watch(self, *, timeout: float | None = None) -> Stream[session_service_pb2.SessionEvent]:
        """What happens to the session, from now until it is closed."""
        return self._link.stream(sessions.watch_session(self.name), timeout)

    def fork(self, key: str = "", *, timeout: float | None = None) -> Session:
        """A second session that shares all that is resident of this one."""
        forked = self._link.unary(sessions.fork_session(self.name, key), timeout)
        return Session(self._link, forked.name, forked)

    def save_snapshot(self, path: requests.PathLike, *, timeout: float | None = None) -> int:
        """Write the context with its KV to a file on the daemon's machine. Returns the bytes written."""
        return self._link.unary(sessions.save_snapshot(self.name, path), timeout)

    def restore_snapshot(
        self, path: requests.PathLike, *, timeout: float | None = None
    ) -> session_service_pb2.Session:
        """Read the context with its KV from a file on the daemon's machine."""
        return self._link.unary(sessions.restore_snapshot(self.name, path), timeout)

    def close(self, *, timeout: float | None = None) -> session_service_pb2.Session:
        """Close the session in the daemon and free what it holds. A running turn is cancelled."""
        return self._link.unary(sessions.close_session(self.name), timeout)
