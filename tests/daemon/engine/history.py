"""Plays jobs over branches of two arenas, and compares every outcome with the naive one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.daemon.engine.driven import Driven, Outcome
from tests.daemon.engine.scripted import fresh_answer, fresh_logits

from sessiond.adapters.base import NoRoom, Sampling
from sessiond.daemon.engine.arena import Arena, Guessing
from sessiond.daemon.engine.loop import Cancelled, Loop
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish, Reuse

MOST = 6
"""Tokens of an answer."""


class Asked(NamedTuple):
    """One job, or something else that happens to a branch, and what happens after it."""

    kind: str
    """"advance", "hot", "generate", "logits", "fork" or "park"."""
    branch: int
    tokens: list[int]
    turns: int
    """Turns before the next one comes."""
    cancel: str
    """"", "after" these turns, or "inside" the next decode."""


class Judge(NamedTuple):
    """What may be, beside the naive answer."""

    is_full: Callable[[Sequence[int], Sequence[int]], bool] = lambda _mine, _others: False
    """Whether NoRoom is an answer to a job over so many tokens, while others hold so many each."""
    restores: bool = True
    """Whether anything can be brought back from memory."""


@dataclass
class _Branch:
    """A branch, and the job that it runs."""

    name: str
    arena: Arena
    outcome: Outcome | None = None
    asked: Asked | None = None
    cancelled: bool = False
    got: list[int] = field(default_factory=list[int])
    beside: int = 0
    """Tokens that the other branch of the arena held at most since the job began, or was asked for."""


class History:
    """Two branches in each arena. `check` runs after every turn."""

    def __init__(self, arenas: list[Arena], judge: Judge, check: Callable[[], None]) -> None:
        self._loop = Driven(Loop(), check)
        self._judge = judge
        self._branches = [_Branch(f"b{index}", arenas[index % len(arenas)]) for index in range(4)]
        self._check = check
        self.inside: dict[int, Callable[[], None]] = {}
        """By arena, what happens inside its next decode."""
        for branch in self._branches:
            branch.arena.open(branch.name)

    def play(self, jobs: list[Asked]) -> None:
        """All of them, and then each to its end."""
        for asked in jobs:
            self._begin(asked)
            for _ in range(asked.turns):
                self._loop.turn()
        for branch in self._branches:
            self._finish(branch)
        for branch in self._branches:
            branch.arena.close(branch.name)
            self._check()

    def _begin(self, asked: Asked) -> None:
        branch = self._branches[asked.branch]
        match asked.kind:
            case "fork":
                self._finish(branch)
                self._fork(branch, self._branches[asked.branch - 2])
            case "park":
                branch.arena.park()
                self._check()
            case _:
                self._finish(branch)
                self._submit(branch, asked)

    def _fork(self, branch: _Branch, parent: _Branch) -> None:
        branch.arena.close(branch.name)
        branch.arena.open(branch.name, parent.name)
        assert branch.arena.tokens(branch.name) == parent.arena.tokens(parent.name)
        self._check()

    def _submit(self, branch: _Branch, asked: Asked) -> None:
        branch.got, branch.asked, branch.cancelled = [], asked, False
        [other] = [each for each in self._branches if each is not branch and each.arena is branch.arena]
        # When the job is judged, the other one may have gone on to something shorter.
        branch.beside = len(other.arena.tokens(other.name))
        if other.outcome is not None and not other.outcome.over and other.asked is not None:
            branch.beside = max(branch.beside, len(other.asked.tokens) + MOST)
        if other.outcome is not None and not other.outcome.over:
            other.beside = max(other.beside, len(asked.tokens) + MOST)
        rank = {"generate": Rank.DECODE, "hot": Rank.KEEP_HOT}.get(asked.kind, Rank.PREFILL)
        job_id, outcome = self._loop.submit(branch.arena, self._work(branch, asked), rank)
        branch.outcome = outcome

        def cancel() -> None:
            if branch.outcome is outcome:
                branch.cancelled = branch.cancelled or not outcome.over
                self._loop.loop.cancel(job_id)

        if asked.cancel == "inside":
            self.inside[id(branch.arena)] = cancel
        elif asked.cancel == "after":
            for _ in range(asked.turns):
                self._loop.turn()
            cancel()

    def _work(self, branch: _Branch, asked: Asked) -> Any:
        arena, borders = branch.arena, range(4, len(asked.tokens), 4)
        match asked.kind:
            case "advance" | "hot":
                return arena.advance(branch.name, asked.tokens, lambda _done, _total: None, borders)
            case "logits":
                return arena.logits(branch.name, asked.tokens)
            case _:
                told = (Sampling(), MOST, branch.got.append)
                return arena.generate(branch.name, asked.tokens, *told, guessing=Guessing())

    def _finish(self, branch: _Branch) -> None:
        outcome, asked = branch.outcome, branch.asked
        if outcome is None or asked is None:
            return
        self._loop.until(lambda: outcome.over)
        branch.outcome = None
        answer = fresh_answer(asked.tokens, MOST)
        assert branch.got == answer[: len(branch.got)]
        match outcome.error:
            case Cancelled():
                assert branch.cancelled, "nobody cancelled it"
            case NoRoom():
                assert self._judge.is_full([len(asked.tokens) + MOST], [branch.beside]), "there was room"
            case None:
                self._check_value(branch, asked, outcome.value, answer)
            case error:
                raise AssertionError(f"failed of {error!r}") from error

    def _check_value(self, branch: _Branch, asked: Asked, value: Any, answer: list[int]) -> None:
        match value:
            case Reuse():
                assert value.reused + value.restored + value.prefilled == len(asked.tokens)
                assert min(value.reused, value.restored, value.prefilled) >= 0
                assert self._judge.restores or value.restored == 0
            case Finish():
                assert branch.got == answer
                assert value.reason == ("length" if len(answer) == MOST else "stop")
            case _:
                assert value == fresh_logits(asked.tokens)
