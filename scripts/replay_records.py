"""What is noted while a day is replayed: questions, and what keep-hot did meanwhile. Pure.

All moments are seconds of one clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from replay_plan import Kind
from sessiond.v1.context_pb2 import PrefixStatus


@dataclass(frozen=True, slots=True)
class Question:
    """One turn, as the client saw it."""

    kind: Kind
    commit: int
    first_token_ms: float
    """Of the whole turn: the prefix is brought up to date within it."""
    prefix_tokens: int
    reused_tokens: int
    restored_tokens: int
    prefilled_tokens: int
    """Those of the prefix: what of it was there, what was brought back, what was computed. The suffix is always computed."""
    changed: bool
    """Whether the prefix was another one than at the question before. Not every file of a workspace is in it."""
    early: bool = False
    """Whether it was asked while the background still computed what it needed."""

    @classmethod
    def of(
        cls,
        turn: tuple[Kind, int],
        first_token_ms: float,
        now: PrefixStatus,
        before: PrefixStatus,
        *,
        early: bool = False,
    ) -> Question:
        """The turn of this kind and commit, by what was told of its prefix and of that before."""
        kind, commit = turn
        return cls(
            kind=kind,
            commit=commit,
            first_token_ms=first_token_ms,
            prefix_tokens=now.prefix_tokens,
            reused_tokens=now.reused_tokens,
            restored_tokens=now.restored_tokens,
            prefilled_tokens=now.prefilled_tokens,
            changed=now.stable_token_hash != before.stable_token_hash,
            early=early,
        )

    def as_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Run:
    """One background prefill."""

    began: float
    ended: float | None = None
    phase: str = "started"
    """"started", "finished" or "superseded"."""
    prefilled_tokens: int = 0


@dataclass(slots=True)
class Runs:
    """All background prefills of one session, as its events tell of them."""

    all: list[Run] = field(default_factory=list[Run])

    def heard(self, at: float, phase: str, prefilled_tokens: int) -> None:
        """Note an event that came at this moment."""
        if phase == "started":
            self.all.append(Run(at))
        elif self.all and self.all[-1].ended is None:
            run = self.all[-1]
            run.ended, run.phase, run.prefilled_tokens = at, phase, prefilled_tokens

    def unfinished_since(self, moment: float) -> bool:
        """Whether one that began after this moment still runs. One that began before and was never heard of again has
        failed, and is no excuse for what comes later.
        """
        return bool(self.all) and self.all[-1].ended is None and self.all[-1].began >= moment

    def in_phase(self, phase: str) -> list[Run]:
        """Those that came to this."""
        return [run for run in self.all if run.phase == phase]

    def lags_ms(self, writes: Sequence[float]) -> list[float]:
        """How long after each of these moments the prefix was hot, where it became so before the next of them."""
        nexts = [*writes, math.inf][1:]
        lags: list[float] = []
        for wrote, following in zip(writes, nexts, strict=True):
            ends = [
                run.ended
                for run in self.all
                if run.phase == "finished" and run.ended and wrote <= run.began and run.ended < following
            ]
            if ends:
                lags.append((max(ends) - wrote) * 1e3)
        return lags


@dataclass(slots=True)
class Day:
    """Everything that was noted of one daemon."""

    questions: list[Question] = field(default_factory=list[Question])
    runs: Runs = field(default_factory=Runs)
    writes: list[float] = field(default_factory=list[float])
    """When files were written."""
    checked: int = 0
    """How often it was compared with a fresh session and with the files."""
    stale: list[str] = field(default_factory=list[str])
    """What did not agree then."""
    answers_checked: int = 0
    """How many answers were compared with those of a cold session."""
    unlike: list[str] = field(default_factory=list[str])
    """What was answered otherwise."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so large a share of them does not exceed; 0 of nothing."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0
