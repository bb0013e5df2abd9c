"""The daemon's side: a folder of real files, a daemon of its own, turns through its client.

A turn is one `Complete` with the workspace as its prefix: whatever is needed to bring that up to date is within its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from benchmark.at_once import at_once
from benchmark.quiet import wait_until_still
from benchmark.sides import Role, Runtime, Work, runtime_of
from benchmark.stamps import together
from benchmark.texts import Piece
from benchmark.took import NotMeasured, Took
from benchmark.turns import CLOSE_SECONDS, Turn, complete, greedy
from benchmark.versions import Version
from demo_daemon import daemon_pid, own_daemon
from replay_desk import QUIET_S
from replay_git import CONFIG_FILE
from replay_hunks import changes
from replay_plan import Step
from replay_records import Runs
from replay_scratch import Scratch
from sessiond.client import Client, Config, DecodeConfig, PrefixInput, Session, SessiondError, prefix_input
from sessiond.v1.config_pb2 import SPECULATION_OFF
from sessiond.v1.context_pb2 import WorkspaceInput
from sessiond.v1.model_service_pb2 import ModelRuntime

SETTINGS = f'order = "path"\nexclude = ["/{CONFIG_FILE}"]\n'.encode()
"""Of the folder: the peers are given the files in this order, and would not know of another."""
REST_SECONDS = 300.0
"""After which a background that does not end counts as one that never does."""
START_SECONDS = 60.0
_TICK_S = 0.01


class Ours:
    """See the module. `planted` slows the warm turns down by that share, to see that the check finds it."""

    name = "sessiond"
    role: Role = "ours"

    def __init__(
        self, folder: Path, model: str, think_seconds: float, planted: float = 0.0, *, measure: bool = False
    ) -> None:
        self._folder, self._model, self._think_s, self._planted = folder, model, think_seconds, planted
        self._measure = measure
        self._daemon = ExitStack()
        self._opened = ExitStack()
        self._sessions: dict[int, Session] = {}
        self._runs = Runs()
        self._work = Work("none", 0, 1)
        self._root = folder
        self._scratch: Scratch | None = None
        self._contents: Mapping[str, bytes] = {}
        self._wrote = 0.0
        self._end_tokens: Sequence[int] = ()
        self._start()
        # The one that `own_daemon` gives ends with its daemon; this one finds the next daemon at the same place.
        self.client = Client(socket=folder / "d.sock", token="")
        self._wait()
        # What was not measured now, on a busy machine, is not to be in the middle of the run: all sides run alike.
        self._measure = bool(self.ways().measurements)

    @property
    def flags(self) -> Sequence[str]:
        """As `own_daemon` starts it."""
        measure = "--measure" if self._measure else "--no-measure"
        return ["serve", measure, *([f"planted={self._planted:g}"] if self._planted else [])]

    def avoid(self, end_tokens: Sequence[int]) -> None:
        """Tokens that no answer may come to while its speed is measured."""
        self._end_tokens = end_tokens

    def runtime(self) -> Runtime:
        """How the daemon runs the model. Asked after `begin`."""
        return runtime_of(self.client.model().absolute_path, self.config())

    def ways(self) -> ModelRuntime:
        """How the model runs where a session leaves it open, and what the daemon measured to choose that, if it did."""
        [model] = self.client.runtime().models
        return model

    def begin(self, work: Work) -> None:
        """See Side. A folder of its own, with nothing in it; a daemon that is gone begins anew."""
        self._leave()
        if not self.client.healthy():
            self.restart()
        self._work, self._contents = work, {}
        self._root = self._folder / f"workspace {work.name}"
        self._scratch = Scratch(self._root, {CONFIG_FILE: SETTINGS})

    def save(self, version: Version) -> None:
        """See Side. Files are replaced, as editors do it."""
        writes = changes(self._contents, version.contents)
        if writes and self._scratch:
            self._others_leave()
            self._scratch.apply(Step("save", writes, 0))
            self._contents, self._wrote = version.contents, time.perf_counter()

    def think(self) -> float | None:
        """See Side: until keep-hot has finished what began after the save, or for as long as somebody thinks."""
        with _not_measured():
            self._session(0)
        until = self._wrote + self._think_s
        while not self._hot():
            if time.perf_counter() > until:
                return None
            time.sleep(_TICK_S)
        return (time.perf_counter() - self._wrote) * 1e3

    def restart(self) -> None:
        """See Side. The state folder stays."""
        self._leave()
        self._daemon.close()
        with _not_measured():
            self._start()
            self._wait()

    @contextmanager
    def paused(self) -> Generator[None]:
        """There is no daemon meanwhile, and nothing that it maps. The state folder stays."""
        self._leave()
        self._daemon.close()
        try:
            yield
        finally:
            self._start()
            self._wait()

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """See Side."""
        opened_ms = self._opened_now(client)
        turn = self.asked(client, version, suffix, answer)
        delay = self._planted * turn.first_token_ms
        took = _took([turn], turn.first_token_ms + delay, turn.token_ms)
        return msgspec.structs.replace(took, opened_ms=opened_ms)

    def asked(self, client: int, version: Version, suffix: Piece, answer: int) -> Turn:
        """A turn, and how it went. Raises NotMeasured, RuntimeError if it was about other tokens."""
        with _not_measured():
            turn = complete(self._session(client), suffix.text, self._config(answer), self._prefix())
        _same_work(turn, version, suffix)
        return turn

    def together(self, version: Version, suffixes: Sequence[Piece], answer: int) -> Took:
        """See Side."""
        with _not_measured():
            sessions = [self._session(client) for client in range(len(suffixes))]
        acts = [
            partial(complete, session, piece.text, self._config(answer), self._prefix())
            for session, piece in zip(sessions, suffixes, strict=True)
        ]
        with _not_measured():
            begun, turns = at_once(acts)
        for turn, piece in zip(turns, suffixes, strict=True):
            _same_work(turn, version, piece)
        speed = together([turn.stamps for turn in turns])
        wall_ms = (max(turn.first_at for turn in turns) - begun) * 1e3
        return _took(turns, wall_ms, 1e3 / speed if speed else 0.0)

    def rest(self) -> None:
        """See Side: until the watcher has had its time to see the last save, no background prefill runs, and what is worth it
        has been put into memory and on the disk. That goes on beside the next turn of who asks again at once, but it is not to go
        on beside another side's. Raises NotMeasured if it never ends.
        """
        until = time.perf_counter() + REST_SECONDS
        while time.perf_counter() < until:
            quiet = time.perf_counter() - self._wrote >= QUIET_S
            if quiet and not self._runs.unfinished_since(0.0):
                break
            time.sleep(_TICK_S)
        if not wait_until_still(self._pid(), REST_SECONDS):
            raise NotMeasured("the daemon never rests")

    def keep(self) -> None:
        """See Side. Nothing has to be told: what was there stays while there is room."""

    def close(self) -> None:
        """See Side."""
        self._leave()
        self.client.close()
        self._daemon.close()

    def config(self) -> Config:
        """What the daemon chose for the sessions. Asked after `begin`."""
        return self._session(0).info().config

    def _pid(self) -> int:
        """The daemon's. Raises NotMeasured if it is gone."""
        try:
            return daemon_pid(self._folder)
        except (OSError, ValueError) as error:
            raise NotMeasured("the daemon is gone") from error

    def _start(self) -> None:
        self._daemon.enter_context(own_daemon(self._folder, self._model, measure=self._measure))

    def _wait(self) -> None:
        """Until our own connection is there, too, and the model is loaded."""
        until = time.monotonic() + START_SECONDS
        while not self.client.healthy() and time.monotonic() < until:
            time.sleep(_TICK_S)
        self.client.model()

    def _session(self, client: int) -> Session:
        """The session of a client; opened when it first asks."""
        if client not in self._sessions:
            config = Config(num_ctx=self._work.window, prompt_format="raw", disable_bos=True)
            session = self.client.open_session(self._root, key=str(client), config=config)
            self._sessions[client] = session
            self._opened.callback(_close, session)
            if client == 0:
                self._runs = Runs()
                listening = threading.Thread(target=_listen, args=(session, self._runs), daemon=True)
                listening.start()
        return self._sessions[client]

    def _opened_now(self, client: int) -> float | None:
        """Open the client's session, as an editor does when it starts: how many milliseconds that took, None if it was open."""
        if client in self._sessions:
            return None
        begun = time.perf_counter()
        with _not_measured():
            self._session(client)
        return (time.perf_counter() - begun) * 1e3

    def _hot(self) -> bool:
        finished = self._runs.in_phase("finished")
        return any(run.began >= self._wrote for run in finished) and not self._runs.unfinished_since(0.0)

    def _others_leave(self) -> None:
        """Whoever only asked about files as they were would hold on to them, and the next to come would not be new."""
        for client in [client for client in self._sessions if client]:
            _close(self._sessions.pop(client))

    def _leave(self) -> None:
        self._opened.close()
        self._sessions = {}
        self._runs = Runs()

    def _prefix(self) -> PrefixInput:
        return prefix_input(workspace=WorkspaceInput(max_tokens=self._work.window))

    def _config(self, answer: int) -> DecodeConfig:
        config = greedy(answer, never=self._end_tokens if answer > 1 else ())
        config.speculation = SPECULATION_OFF  # the others guess nothing either
        return config


@contextmanager
def _not_measured() -> Generator[None]:
    """What the daemon says instead of doing it is for the rows to say."""
    try:
        yield
    except (SessiondError, TimeoutError) as error:
        raise NotMeasured(f"{type(error).__name__}: {error}") from error


def _listen(session: Session, runs: Runs) -> None:
    """Until the session is closed, or gone with its daemon."""
    with suppress(SessiondError):
        for event in session.watch():
            if event.HasField("keep_hot"):
                runs.heard(time.perf_counter(), event.keep_hot.phase, event.keep_hot.prefilled_tokens)


def _close(session: Session) -> None:
    with suppress(SessiondError, TimeoutError):
        session.close(timeout=CLOSE_SECONDS)


def _same_work(turn: Turn, version: Version, suffix: Piece) -> None:
    """Raises RuntimeError if the daemon was not asked for the very tokens that the others are given."""
    if turn.prefix.stable_token_hash != version.token_hash:
        raise RuntimeError(
            f"the daemon's prefix of {turn.prefix.prefix_tokens} tokens is not the one of {len(version.ids)} "
            "that the others are given"
        )
    if turn.suffix.suffix_tokens != len(suffix.ids):
        raise RuntimeError("the daemon's suffix is not the one that the others are given")


def _took(turns: Sequence[Turn], first_token_ms: float, token_ms: float) -> Took:
    return Took(
        first_token_ms=first_token_ms,
        token_ms=token_ms,
        prefilled_tokens=sum(turn.prefix.prefilled_tokens + turn.suffix.prefilled_tokens for turn in turns),
        reused_tokens=sum(turn.prefix.reused_tokens + turn.suffix.reused_tokens for turn in turns),
        restored_tokens=sum(turn.prefix.restored_tokens for turn in turns),
    )
