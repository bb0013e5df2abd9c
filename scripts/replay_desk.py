"""Somebody at work in one folder with one daemon: files change, questions are asked, and what both cost is noted."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass

from benchmark.turns import complete, greedy
from replay_plan import Kind, Step
from replay_records import Day, Question
from replay_scratch import Scratch
from sessiond.client import Client, Config, Session, SessiondError, prefix_input
from sessiond.daemon.workspace.filling import framed
from sessiond.v1.context_pb2 import PrefixStatus, WorkspaceInput

ANSWER = 8
"""Tokens of each answer."""
SUFFIX_ROOM = 256
"""Tokens of the window beside the workspace's: its frame, a question, the answer."""
CLOSE_SECONDS = 30.0
OPEN_SECONDS = 300.0
QUIET_S = 0.5
"""Longer than the daemon gathers changes before it answers them."""
SETTLE_SECONDS = 300.0
COLD_ROOM = 256
"""Tokens by which a cold session's window is wider: it has cells of its own then, and shares with nobody."""
PAUSE_SHARE = 0.2
"""Of the time to think: how long somebody waits after a save without a question."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How questions are put."""

    num_ctx: int
    max_tokens: int
    """Of the workspace."""
    think: float
    """Seconds between a save and the question."""
    check_every: int = 0
    """After so many questions the prefix is compared with a fresh session's; 0 is never."""
    deterministic: bool = False
    """Then each answer since is compared with that of a session which has nothing to reuse."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """A question, and what came of it."""

    place: str
    question: str
    tokens: list[int]


class Desk:
    """One session over one folder. Its first question is asked when it is made."""

    def __init__(self, client: Client, scratch: Scratch, manner: Manner, *, keeps_hot: bool) -> None:
        self.day = Day()
        self._client, self._scratch, self._manner, self._keeps_hot = client, scratch, manner, keeps_hot
        self._asked = self._steps = 0
        self._last = PrefixStatus()
        self._unchecked: list[_Answered] = []
        self._wrote = 0.0
        self._first_write: float | None = None
        """Since the last question: what the background began after it may have to do with the next one."""
        self._session = self._open("desk")
        self._watch = threading.Thread(target=self._listen, daemon=True)
        self._watch.start()
        self._ask("cold", 0)
        self._ask("plain", 0)
        self._check_answers()

    def work(self, step: Step) -> None:
        """Let the step happen, think, ask, and ask again."""
        self._first_write = self._first_write or time.perf_counter()
        self._scratch.apply(step)
        self._wrote = time.perf_counter()
        self.day.writes.append(self._wrote)
        if not step.asked:
            time.sleep(self._manner.think * PAUSE_SHARE)
            return
        time.sleep(self._manner.think)
        self._ask(step.kind, step.commit)
        self._ask("plain", step.commit)
        self._steps += 1
        if self._manner.check_every and self._steps % self._manner.check_every == 0:
            self._check(step)
            self._check_answers()

    def settle(self) -> None:
        """Return when nothing runs in the background, so that it disturbs nobody else."""
        until = time.perf_counter() + SETTLE_SECONDS
        while self._keeps_hot and time.perf_counter() < until:
            quiet = time.perf_counter() - self._wrote
            if quiet >= QUIET_S and not self.day.runs.unfinished_since(0.0):
                return
            time.sleep(0.02)

    def close(self) -> None:
        """End the session."""
        _close(self._session)
        self._watch.join(CLOSE_SECONDS)

    def _open(self, key: str, room: int = 0) -> Session:
        config = Config(num_ctx=self._manner.num_ctx + room, deterministic=self._manner.deterministic)
        return self._client.open_session(self._scratch.root, key=key, config=config, timeout=OPEN_SECONDS)

    def _listen(self) -> None:
        """Until the session is closed, or gone with its daemon: whoever asks there next is told of that."""
        try:
            for event in self._session.watch():
                if event.HasField("keep_hot"):
                    run = event.keep_hot
                    self.day.runs.heard(time.perf_counter(), run.phase, run.prefilled_tokens)
        except SessiondError:
            return

    def _ask(self, kind: Kind, commit: int) -> None:
        self._asked += 1
        early = self._first_write is not None and self.day.runs.unfinished_since(self._first_write)
        self._first_write = None
        # The number comes first, and its last digit before all, so that no question begins as the one before it did.
        question = f"{f'{self._asked:05}'[::-1]}: what does the last change do?"
        turn = complete(self._session, question, greedy(ANSWER), prefix_input(workspace=self._workspace()))
        asked = Question.of((kind, commit), turn.first_token_ms, turn.prefix, self._last, early=early)
        self.day.questions.append(asked)
        self._last = turn.prefix
        self._unchecked.append(_Answered(f"commit {commit}, {kind}", question, turn.tokens))

    def _workspace(self, *, keep_hot: bool = True) -> WorkspaceInput:
        return WorkspaceInput(max_tokens=self._manner.max_tokens, no_keep_hot=not keep_hot)

    def _check(self, step: Step) -> None:
        """Compare the prefix of the question before with that of a fresh session, and with the files themselves."""
        self.day.checked += 1
        place = f"commit {step.commit}, {step.kind}"
        fresh = self._open(f"fresh {self.day.checked}")
        try:
            status = fresh.ensure_prefix(workspace=self._workspace(keep_hot=False)).status
        finally:
            _close(fresh)
        if status.manifest_digest != self._last.manifest_digest:
            self.day.stale.append(f"{place}: a fresh session has another prefix")
        for segment in self._session.explain().manifest.segments:
            if segment.path and segment.byte_hash != self._hash_of(segment.path):
                self.day.stale.append(f"{place}: {segment.path} is not what the file holds")

    def _check_answers(self) -> None:
        """Ask what was asked since the last change once more, each question of a session that computes all of it."""
        asked, self._unchecked = self._unchecked, []
        if not (self._manner.check_every and self._manner.deterministic):
            return
        prefix = prefix_input(workspace=self._workspace(keep_hot=False))
        for one in asked[-2:]:
            self.day.answers_checked += 1
            cold = self._open(f"cold {self.day.answers_checked}", COLD_ROOM)
            try:
                turn = complete(cold, one.question, greedy(ANSWER), prefix)
            finally:
                _close(cold)
            if turn.prefix.prefilled_tokens != turn.prefix.prefix_tokens:
                self.day.unlike.append(f"{one.place}: the session to compare with was not cold")
            if turn.tokens != one.tokens:
                self.day.unlike.append(f"{one.place}: a cold session answers otherwise")

    def _hash_of(self, path: str) -> str:
        """Of a file as it should stand in the prefix."""
        content = self._scratch.read(path)
        text = framed(path, content.decode("utf-8", "replace")) if content is not None else ""
        return hashlib.sha256(text.encode()).hexdigest()


def _close(session: Session) -> None:
    """End a session. One that cannot be ended has failed before, and that is told."""
    try:
        session.close(timeout=CLOSE_SECONDS)
    except (SessiondError, TimeoutError):
        return
