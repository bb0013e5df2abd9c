"""Prompts as values, for the blocking client."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Self, Unpack

from sessiond.client import requests
from sessiond.client.calls import sessions
from sessiond.client.prompts.answers import Answer, Scored
from sessiond.client.prompts.costs import Costs
from sessiond.client.prompts.graph import Graph
from sessiond.client.prompts.owner import Owner, forget, left_behind
from sessiond.client.prompts.prompt import Prompt
from sessiond.client.prompts.turn import Heard, Turn, planned
from sessiond.client.requests import DecodeSettings
from sessiond.client.sync.crew import Crew
from sessiond.client.sync.link import Link
from sessiond.client.sync.session import Session
from sessiond.client.sync.stream import Stream
from sessiond.v1 import config_pb2, context_pb2
from sessiond.v1.errors import SessiondError, SessionNotFound, invalid

CLOSE_S = 10.0
"""How long a daemon may take to close a session of ours."""


class Prompts:
    """Answers prompts, and scores texts after them, each shared beginning computed once.

    It does so on sessions of its own, `at_once` at most. Used with `with` it keeps them until its end, and with them what
    was computed: then a run finds what the one before has left, and `explain` says what is where. Without, and after an
    error or a Ctrl-C, they are closed at the end of the call. One call at a time.
    """

    def __init__(
        self,
        link: Link,
        *,
        workspace_root: requests.PathLike | None = None,
        model: str = "",
        config: config_pb2.Config | None = None,
        at_once: int = 4,
    ) -> None:
        if at_once < 1:
            raise invalid("at_once", f"{at_once} is not 1 or more")
        self._link = link
        self._open_call = (workspace_root, model, config)
        self._raw = config is not None and config.prompt_format == "raw"
        self._at_once = at_once
        self._keeps = False
        self._owner = Owner()
        self._crew: dict[str, Session | None] = {}
        """Its sessions by their keys; None while one is being opened."""
        self._stands: dict[str, Turn] = {}
        """By session, what it stands on."""
        self._costs = Costs()

    def __enter__(self) -> Self:
        self._keeps = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeps = False
        self.close()

    def close(self) -> None:
        """Close its sessions."""
        try:
            self._close_all()
        except BaseException:  # what a signal's handler raised must not leave some of them open
            self._close_all()
            raise

    def _close_all(self) -> None:
        self._stands.clear()
        for key, session in list(self._crew.items()):
            try:
                for one in [session] if session is not None else self._called(key):
                    one.close(timeout=CLOSE_S)
            except SessionNotFound:
                pass  # it is closed already
            except (SessiondError, TimeoutError):
                self._owner.left_some = True
            self._crew.pop(key, None)
        self._owner.leave()

    def _called(self, key: str) -> list[Session]:
        """What was opened with this key: whoever opened it was interrupted before its name was known."""
        known = self._link.unary(sessions.list_sessions(), CLOSE_S)
        found = [Session(self._link, one.name, one) for one in known if one.key == key]
        self._owner.left_some |= not found  # the daemon may be about to open it
        return found

    def _close_left_behind(self, timeout: float | None) -> None:
        """Close what clients have left open that died: else they would fill the daemon in the end."""
        for owner, names in left_behind(self._link.unary(sessions.list_sessions(), timeout)).items():
            with contextlib.suppress(SessiondError, TimeoutError):
                for name in names:
                    self._link.unary(sessions.close_session(name), CLOSE_S)
                forget(owner)

    def run(
        self,
        prompts: Iterable[Prompt | str],
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> list[Answer]:
        """The answers to all prompts, in the order given; see `each`."""
        return sorted(
            self.each(prompts, config, timeout=timeout, **settings), key=lambda answer: answer.index
        )

    def each(
        self,
        prompts: Iterable[Prompt | str],
        config: config_pb2.DecodeConfig | None = None,
        *,
        timeout: float | None = None,
        **settings: Unpack[DecodeSettings],
    ) -> Generator[Answer, None, None]:
        """Each answer as it ends. Prompts are computed one after the other, in the order that needs the fewest tokens, and
        answered side by side. `timeout` (seconds) is that of each turn. The first error ends the others.
        """
        turns = planned(prompts, raw=self._raw)
        return self._each(turns, requests.decode_config(config, settings), timeout)

    def _each(
        self, turns: list[Turn], chosen: config_pb2.DecodeConfig, timeout: float | None
    ) -> Generator[Answer, None, None]:
        self._costs.begin(turns)

        def begin(session: Session, turn: Turn) -> Stream[Heard]:
            self._stands.pop(session.name, None)
            return self._link.stream(
                sessions.complete(session.name, turn.prefix, turn.suffix, chosen, {}), timeout
            )

        def ended(session: Session, turn: Turn) -> tuple[Turn, context_pb2.ContextReport]:
            self._stands[session.name] = turn
            return turn, session.explain(timeout=timeout)

        crew = Crew(begin, Turn.heard, ended)
        ended_well = False
        try:
            for turn, report in crew.work(self._ready(len(turns), timeout), turns):
                answer = turn.answer()
                spent_ms = answer.summary.timings.prefill_ms
                # Here, in one thread: two turns may add to what the same piece has cost.
                self._costs.heard(turn, answer.prefix, answer.suffix, report, spent_ms)
                yield answer
            ended_well = True
        finally:
            self._end(ended_well=ended_well)

    def _end(self, *, ended_well: bool) -> None:
        if not (self._keeps and ended_well):
            self.close()

    def _ready(self, most: int, timeout: float | None) -> list[Session]:
        """As many sessions as can be of use."""
        root, model, config = self._open_call
        if len(self._crew) < min(most, self._at_once):
            self._close_left_behind(timeout)
        while len(self._crew) < min(most, self._at_once):
            key = self._owner.key()
            call = sessions.open_session(root, model, key, config)
            self._crew[key] = None
            opened = self._link.unary(call, timeout).session
            self._crew[key] = Session(self._link, opened.name, opened)
        return self._known()[:most]

    def _known(self) -> list[Session]:
        return [session for session in self._crew.values() if session is not None]

    def scores(
        self, prompt: Prompt | str, continuations: Iterable[str], *, timeout: float | None = None
    ) -> list[Scored]:
        """How likely each of these texts is after the prompt, which is computed once: classification without sampling."""
        turn = Turn(Prompt(prompt) if isinstance(prompt, str) else prompt)
        texts = continuations if isinstance(continuations, str) else list(continuations)
        ended_well = False
        self._costs.begin([turn])
        try:
            [session] = self._ready(1, timeout)
            self._stands.pop(session.name, None)
            first = self._link.unary(sessions.ensure_prefix(session.name, turn.prefix), timeout)
            then = self._link.unary(sessions.prefill_suffix(session.name, turn.suffix), timeout)
            told = session.score(texts, timeout=timeout)
            report = session.explain(timeout=timeout)
            self._stands[session.name] = turn
            spent_ms = first.timings.prefill_ms + then.timings.prefill_ms
            self._costs.heard(turn, first.status, then.status, report, spent_ms)
            ended_well = True
        finally:
            self._end(ended_well=ended_well)
        return [Scored.of(text, one) for text, one in zip(texts, told.scores, strict=True)]

    def explain(
        self, prompts: Iterable[Prompt | str] | None = None, *, timeout: float | None = None
    ) -> Graph:
        """The pieces of these prompts, or of those of the last run: what each cost then, and where its KV is. Computes
        nothing.
        """
        wanted = self._costs.prompts if prompts is None else list(prompts)
        held = [
            (self._stands[session.name], session.explain(timeout=timeout))
            for session in self._known()
            if session.name in self._stands
        ]
        return Graph.of((Prompt(one) if isinstance(one, str) else one for one in wanted), self._costs, held)
