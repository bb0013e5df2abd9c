"""Clients at work, each with some sessions: they open, edit, ask, fork and close, and note what they are told.

A call may fail because somebody was killed: SESSION_FATAL, SESSION_UNAVAILABLE, a broken connection, which the client says
is SESSION_UNAVAILABLE. Anything else is a fault.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from kills_held import Folder, Held, Library, Shelf
from sessiond.client import (
    Client,
    Config,
    PrefixInput,
    Session,
    SessionFatal,
    SessionUnavailable,
    prefix_input,
)
from sessiond.v1.context_pb2 import PrefixStatus

WINDOW = 2048
"""Tokens of each session."""
CONFIG = Config(num_ctx=WINDOW, num_ubatch=64, prompt_format="raw", disable_bos=True, deterministic=True)
"""No frames, so that what a prompt is made of is known; small micro-batches, so that there is time to be killed in one."""
CLIENTS = 4
MOST = 3
"""Sessions that one client holds."""
LONGEST_ANSWER = 24
CALL_S = 90.0
"""After which a call counts as one that never ends."""
BROKEN = (SessionFatal, SessionUnavailable)
EDIT_S = 0.4
PAUSE_S = 0.25
"""Between two acts, at most."""
WORK_S, LULL_S = 1.2, 1.0
"""All work, and then nobody does: while anybody does, next to nothing is written."""


@dataclass(frozen=True, slots=True)
class World:
    """Where clients work, and with what."""

    socket: Path
    folder: Folder
    library: Library
    shelf: Shelf


@dataclass(slots=True)
class Turn:
    """A turn, or as much of it as came."""

    held: Held
    question: str
    most: int
    """Tokens of the answer that were asked for."""
    text: str | None
    """Of the prefix, where a client gave it."""
    at: float = 0.0
    """When the prefix was said to be there, by `time.monotonic`."""
    status: PrefixStatus | None = None
    hashes: list[str] | None = None
    """Of the prefix's segments, where the session could say so."""
    got: list[int] = field(default_factory=list[int])
    whole: bool = False
    """Whether it came to its end."""


@dataclass(slots=True)
class Noted:
    """What clients saw."""

    turns: list[Turn] = field(default_factory=list[Turn])
    calls: int = 0
    broken: int = 0
    """Calls that failed as they may when somebody is killed."""
    unanswered: int = 0
    """Turns of these that had not begun to answer."""
    early: list[str] = field(default_factory=list[str])
    """Those that failed while nobody had been killed."""
    faults: list[str] = field(default_factory=list[str])

    def add(self, other: Noted) -> None:
        """Take in what another one saw."""
        for name in ("calls", "broken", "unanswered"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("turns", "early", "faults"):
            getattr(self, name).extend(getattr(other, name))


class LoadClient(threading.Thread):
    """One client, until `over`. `struck` says whether somebody was killed already; while the `gate` is shut, nobody begins."""

    def __init__(
        self,
        world: World,
        hand: list[Held],
        rng: Random,
        struck: Callable[[], bool],
        gate: threading.Event,
    ) -> None:
        super().__init__(name="client", daemon=True)
        self._world, self._hand, self._rng, self._struck, self._gate = world, hand, rng, struck, gate
        self.noted = Noted()
        self.over = threading.Event()
        self.doing = "idle"

    def run(self) -> None:
        """Until it is over."""
        acts = [self._ask] * 5 + [self._ensure] * 2 + [self._fork, self._open, self._close]
        with Client(self._world.socket, token="", timeout=CALL_S) as self._client:
            while not self.over.is_set():
                self._act(self._rng.choice(acts) if self._hand else self._open)
                self.doing = "idle"
                self.over.wait(PAUSE_S * self._rng.random())
                self._gate.wait()

    def _act(self, act: Callable[[], None]) -> None:
        self.noted.calls += 1
        try:
            act()
        except BROKEN as error:
            self.noted.broken += 1
            if not self._struck():
                self.noted.early.append(f"{act.__name__}: {type(error).__name__}: {error}")
            time.sleep(0.05)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is what this script is to find
            self.noted.faults.append(f"{act.__name__}: {type(error).__name__}: {error}")

    def _one(self) -> tuple[Held, Session]:
        held = self._rng.choice(self._hand)
        return held, self._client.session(held.name)

    def _open(self) -> None:
        if len(self._hand) >= MOST:
            self._close()
        workspace = self._rng.random() < 0.5
        self.doing = "open"
        session = self._client.open_session(
            self._world.folder.root if workspace else None,
            key=f"{self._rng.getrandbits(64):x}",
            config=CONFIG,
        )
        held = Held.new(session.name, self._rng, self._world.shelf.mark(), workspace=workspace)
        self._hold(held)
        self._turn(held, session)

    def _hold(self, held: Held) -> None:
        with self._world.shelf.lock:
            self._hand.append(held)

    def _ask(self) -> None:
        held, session = self._one()
        if self._rng.random() < 0.6:
            held.edit(self._rng)
        self._turn(held, session)

    def _ensure(self) -> None:
        held, session = self._one()
        self.doing = "prefill"
        if held.workspace:
            session.ensure_prefix(workspace=True)
        else:
            held.edit(self._rng)
            told = held.ask(self._world.library)
            session.ensure_prefix(told.text)
            told.acked = time.monotonic()

    def _fork(self) -> None:
        held, session = self._one()
        self.doing = "fork"
        child = session.fork(f"{self._rng.getrandbits(64):x}")
        forked = held.forked(child.name)
        if len(self._hand) < MOST:
            self._hold(forked)
            self._turn(forked, child)
        else:
            child.close()

    def _close(self) -> None:
        held, session = self._one()
        self.doing = "close"
        self._world.shelf.drop(held)
        session.close()

    def _turn(self, held: Held, session: Session) -> None:
        """Ask with the prefix as it is now, and note what comes."""
        question = f"# {self._rng.randrange(10_000)}\nresult = "
        told = None if held.workspace else held.ask(self._world.library)
        turn = Turn(held, question, self._rng.randrange(1, LONGEST_ANSWER), told.text if told else None)
        self.noted.turns.append(turn)
        self.doing = "prefill"
        prefix = prefix_input(told.text) if told else prefix_input(workspace=True)
        try:
            self._hear(session, turn, prefix)
        except BROKEN:
            self.noted.unanswered += not turn.got
            raise
        finally:
            if told is not None and turn.status is not None:
                told.acked = turn.at
        turn.hashes = [each.byte_hash for each in session.explain().manifest.segments]

    def _hear(self, session: Session, turn: Turn, prefix: PrefixInput) -> None:
        for event in session.complete(
            turn.question, mode="replace", prefix=prefix, max_tokens=turn.most, temperature=0.0
        ):
            if event.HasField("prefix_status"):
                turn.at, turn.status = time.monotonic(), event.prefix_status
            elif event.HasField("chunk"):
                self.doing = "answer"
                turn.got += event.chunk.token_ids
                turn.whole = turn.whole or event.chunk.HasField("summary")


class Load:
    """All clients and one editor, beside a daemon."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world, self._rng = world, rng
        self._clients: list[LoadClient] = []

    def doing(self) -> list[str]:
        """What the clients are in the middle of."""
        return [each.doing for each in self._clients if each.is_alive()]

    def until(self, over: threading.Event, struck: threading.Event, seconds: float) -> Noted:
        """Work until it is over, or so many seconds; then all clients come to an end. What they saw. Raises TimeoutError if
        one does not.
        """
        gate = threading.Event()
        gate.set()
        shelf = self._world.shelf
        shelf.hands = shelf.hands or [[] for _ in range(CLIENTS)]
        self._clients = [
            LoadClient(self._world, hand, Random(self._rng.getrandbits(64)), struck.is_set, gate)
            for hand in shelf.hands
        ]
        for each in self._clients:
            each.start()
        self._days(over, gate, time.monotonic() + seconds)
        for each in self._clients:
            each.over.set()
        gate.set()
        noted = Noted()
        for each in self._clients:
            each.join(2 * CALL_S)
            if each.is_alive():
                raise TimeoutError(f"a client hangs in: {each.doing}")
            noted.add(each.noted)
        return noted

    def _days(self, over: threading.Event, gate: threading.Event, end: float) -> None:
        """Work and rest, until it is over."""
        while time.monotonic() < end and not over.is_set():
            until = time.monotonic() + WORK_S
            while time.monotonic() < until and not over.wait(EDIT_S * self._rng.random()):
                self._world.folder.edit()
            gate.clear()
            over.wait(LULL_S)
            gate.set()
