"""Rules as a machine over bytes: where an answer may be in its grammar, made as far as answers come, and kept.

A place is a stack: a position in a rule, and where to go on once that rule is done. A state is all the places in which the
bytes so far may have ended. A grammar that is ambiguous in a bad way has states without bound, so all that is made is
counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.adapters.base.grammar.faults import GrammarError
from sessiond.adapters.base.grammar.gbnf import parse
from sessiond.adapters.base.grammar.rules import Rules, Symbol

MAX_WORK = 1 << 17
"""Steps for one token; about a third of a second."""
MAX_PLACES = 1 << 12
"""Places of one state."""
MAX_KEPT = 1 << 18
"""Places, states and ways between them that are kept; some tens of MiB."""


class Place:
    """A position in a rule, and the place where to go on after it. One object for equal places."""

    __slots__ = ("above", "at", "below")

    def __init__(self, at: int, below: Place | None) -> None:
        self.at = at
        self.below = below
        self.above: dict[int, Place] = {}


class State:
    """All places in which the bytes so far may have ended; each is before a set of bytes."""

    __slots__ = ("may_end", "next", "places")

    def __init__(self, places: frozenset[Place], *, may_end: bool) -> None:
        self.places = places
        self.may_end = may_end
        """Whether the text so far is complete."""
        self.next: dict[int, State | None] = {}
        """By byte, as far as it was asked for."""

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return self.may_end and not self.places


class Automaton:
    """The machine of a grammar. Belongs to one thread. Every call but `allow` may raise GrammarError, where the grammar takes
    more than it may.
    """

    def __init__(self, grammar: str) -> None:
        rules, root = parse(grammar)
        self._masks, self._calls, self._starts = _positions(rules)
        self._bottom = Place(-1, None)
        self._states: dict[tuple[frozenset[Place], bool], State] = {}
        self._kept = 0
        self._work = 0
        self.start = self._state((position, self._bottom) for position in self._starts[root])

    @property
    def full(self) -> bool:
        """Whether so much is kept that the next answer should begin with a new one."""
        return self._kept > MAX_KEPT // 2

    def allow(self) -> None:
        """Let the next token take its full share of work."""
        self._work = 0

    def step(self, state: State, byte: int) -> State | None:
        """The state after one more byte; None where the grammar does not allow it."""
        try:
            return state.next[byte]
        except KeyError:
            pass
        fitting = [place for place in state.places if self._masks[place.at] >> byte & 1]
        self._spend(len(state.places))
        found = self._state((place.at + 1, _below(place)) for place in fitting) if fitting else None
        state.next[byte] = found
        self._keep(1)
        return found

    def run(self, state: State, data: bytes) -> State | None:
        """The state after these bytes; None where the grammar does not allow them."""
        for byte in data:
            after = self.step(state, byte)
            if after is None:
                return None
            state = after
        return state

    def _state(self, begun: Iterable[tuple[int, Place]]) -> State:
        """The state of all places that these lead to without a byte."""
        todo = list(begun)
        seen = set(todo)
        places: set[Place] = set()
        may_end = False
        while todo:
            at, below = todo.pop()
            self._spend(1)
            more: list[tuple[int, Place]] = []
            if self._masks[at]:
                places.add(self._place(at, below))
            elif (call := self._calls[at]) is not None:
                back = below if self._at_end(at + 1) else self._place(at + 1, below)
                more = [(start, back) for start in self._starts[call]]
            elif below is self._bottom:
                may_end = True
            else:
                more = [(below.at, _below(below))]
            for each in more:
                if each not in seen:
                    seen.add(each)
                    todo.append(each)
        return self._one(frozenset(places), may_end)

    def _one(self, places: frozenset[Place], may_end: bool) -> State:
        if len(places) > MAX_PLACES:
            raise GrammarError(
                f"is too ambiguous: its text may stand in more than {MAX_PLACES} places at once"
            )
        found = self._states.get((places, may_end))
        if found is None:
            found = self._states[places, may_end] = State(places, may_end=may_end)
            self._keep(len(places) + 1)
        return found

    def _place(self, at: int, below: Place) -> Place:
        found = below.above.get(at)
        if found is None:
            found = below.above[at] = Place(at, below)
            self._keep(1)
        return found

    def _at_end(self, at: int) -> bool:
        return not self._masks[at] and self._calls[at] is None

    def _spend(self, steps: int) -> None:
        self._work += steps
        if self._work > MAX_WORK:
            raise GrammarError(f"is too ambiguous: one token takes more than {MAX_WORK} steps")

    def _keep(self, count: int) -> None:
        self._kept += count
        if self._kept > MAX_KEPT:
            raise GrammarError(f"takes too much memory: more than {MAX_KEPT} places and states")


def _below(place: Place) -> Place:
    assert place.below is not None
    return place.below


def _positions(rules: Rules) -> tuple[list[int], list[Symbol | None], list[list[int]]]:
    """All alternatives in one row, each with an end after it: the set of bytes at each position, the rule that is called
    there, and where the alternatives of each rule start.
    """
    masks: list[int] = []
    calls: list[Symbol | None] = []
    starts: list[list[int]] = []
    for alternatives in rules.alternatives:
        starts.append([])
        for alternative in alternatives:
            starts[-1].append(len(masks))
            for symbol in alternative:
                masks.append(rules.masks[~symbol] if symbol < 0 else 0)
                calls.append(symbol if symbol >= 0 else None)
            masks.append(0)
            calls.append(None)
    return masks, calls, starts
