"""The way of a turn: the parts that it goes one after the other, and what the session is at the end of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from sessiond.daemon.engine.wire import Advanced
from sessiond.daemon.sessions.statuses import PrefixStatus, SuffixStatus

T_co = TypeVar("T_co", bound=PrefixStatus | SuffixStatus, covariant=True)


@dataclass(frozen=True, slots=True)
class Leg(Generic[T_co]):
    """A part that was planned. Until it is done, the session is what it was."""

    stage: str
    """What the turn is at meanwhile: "prefix" or "suffix"."""
    tokens: list[int]
    """All that the session's branch holds at its end."""
    arrive: Callable[[Advanced], T_co]
    """Makes the session what it is then, given what it took, and says so."""
    borders: tuple[int, ...] = ()
    """As in `wire.Advance`."""


AnyLeg: TypeAlias = Leg[PrefixStatus | SuffixStatus]

Entered = Callable[[str, int], object]
"""Hears what a turn is at now, and how many tokens that is."""


class Way:
    """Legs that one job goes, and an answer of at most so many tokens behind them."""

    def __init__(self, legs: Sequence[AnyLeg], most: int, entered: Entered) -> None:
        self._left = deque(legs)
        self._most = most
        self._entered = entered
        self.ends = tuple(len(leg.tokens) for leg in legs)
        self.borders = legs[0].borders if legs else ()
        self._enter()

    @property
    def stage(self) -> str:
        """What the turn is at."""
        return self._left[0].stage if self._left else "decode"

    def arrive(self, took: Advanced) -> PrefixStatus | SuffixStatus:
        """The leg that was under way is done."""
        status = self._left.popleft().arrive(took)
        self._enter()
        return status

    def _enter(self) -> None:
        self._entered(self.stage, len(self._left[0].tokens) if self._left else self._most)
