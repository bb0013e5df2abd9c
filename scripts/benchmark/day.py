"""A day of edits for all sides: a git history, replayed as `scripts/replay.py` does it, with time to think after each save."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.ours import SETTINGS
from benchmark.plan import Round
from benchmark.results import DayTurn
from benchmark.sides import Event, Side, perform
from benchmark.took import NotMeasured, Took
from benchmark.versions import Version, Versions
from replay import Replay
from replay_git import CONFIG_FILE, History, NoHistory
from replay_plan import Habits, Step
from replay_scratch import Scratch
from sessiond.client import Client

MOST_TOKENS = 4000
"""Of the prefix, unless every depth is more: a day has many turns."""
SUFFIX = 16
ROOM = 256
"""Tokens of the window beside the prefix."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which day, and for how long."""

    repo: Path
    commits: int
    max_tokens: int
    seconds: float
    asks: int = 4
    """Questions for each commit, at most, beside the plain ones."""
    show: Callable[[int, float], None] = lambda _done, _left_s: None
    """Told how many commits are done, and for how many seconds it goes on at most."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What the day was."""

    turns: list[DayTurn]
    whole: bool
    """Whether it came to its end within its time."""
    history: str
    """Its newest commit."""


def lived(
    plan: Plan, round_: Round, versions: Versions, client: Client, folder: Path, seed: int = 1
) -> Lived:
    """The day. It ends early where its time is over. Raises NotMeasured without a history."""
    try:
        with contextlib.closing(History(plan.repo)) as history:
            replay = Replay(history, plan.commits, Habits(asks=plan.asks), seed)
            replay.choose(client, plan.max_tokens, busiest=True)
            day = _Day(plan, round_, versions, replay.scratch(folder))
            whole = day.lived(replay)
            return Lived(day.turns, whole, replay.commits[-1].decode())
    except NoHistory as error:
        raise NotMeasured(str(error)) from error


class _Day:
    """The files as they stand, in a folder that no side works in: what stands of them in the prompt is seen there."""

    def __init__(self, plan: Plan, round_: Round, versions: Versions, mirror: Scratch) -> None:
        self._plan, self._round, self._versions, self._mirror = plan, round_, versions, mirror
        (mirror.root / CONFIG_FILE).write_bytes(SETTINGS)
        self._contents = dict(files_of(mirror.root))
        self.turns: list[DayTurn] = []
        self._asked = 0

    def lived(self, replay: Replay) -> bool:
        """Whether there was time for all of it."""
        until = time.monotonic() + self._plan.seconds
        before = self._version()
        self._ask("cold", 0, before, think=False)
        for step in replay.steps():
            left = until - time.monotonic()
            if left < 0:
                return False
            self._plan.show(step.commit - 1, left)
            self._apply(step)
            version = self._version()
            if not step.asked or version.ids == before.ids:
                self._save(version)
                continue
            self._ask(step.kind, step.commit, version, think=True)
            self._ask("plain", step.commit, version, think=False)
            before = version
        return True

    def _apply(self, step: Step) -> None:
        self._mirror.apply(step)
        for path, content in step.writes.items():
            if content is None:
                self._contents.pop(path, None)
            else:
                self._contents[path] = content

    def _version(self) -> Version:
        return self._versions.of_folder(self._mirror.root, self._contents, self._plan.max_tokens + ROOM)

    def _save(self, version: Version) -> None:
        """Nobody asks."""
        for side in self._round.order("saved"):
            with contextlib.suppress(NotMeasured):  # its next turn says so
                side.save(version)
                side.rest()

    def _ask(self, kind: str, commit: int, version: Version, *, think: bool) -> None:
        self._asked += 1
        event = Event(version, (self._versions.question(SUFFIX, version),), think=think)
        took = {side.name: _one(side, event) for side in self._round.order("asked")}
        self.turns.append(DayTurn(kind, commit, len(version.ids), took))


def files_of(root: Path) -> Mapping[str, bytes]:
    """What lies in a folder, beside git's own and ours."""
    found: dict[str, bytes] = {}
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name != ".git"]
        for name in files:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if relative != CONFIG_FILE:
                found[relative] = path.read_bytes()
    return found


def _one(side: Side, event: Event) -> Took | None:
    try:
        return perform(side, event)
    except NotMeasured:
        return None
