"""Who does what when: all sides take turns at every event, and a scenario is repeated until it says enough."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from benchmark.budget import Budget
from benchmark.classes import Scenario
from benchmark.judge import FAR_BEHIND, HOPELESS_AFTER, hopeless, settled
from benchmark.load import OtherLoad
from benchmark.results import MOST_SENTENCE, Row
from benchmark.sides import Event, Side, perform
from benchmark.took import NotMeasured, Took

GIVE_UP = 2
"""Events of one scenario that a side may fail at, one after the other, before it is left out of the rest of it."""

Show = Callable[[str], None]


@dataclass(slots=True)
class Round:
    """All sides, and whose turn it is to begin."""

    sides: Sequence[Side]
    absent: dict[str, str] = field(default_factory=dict[str, str])
    """Sides that cannot take part at this depth, and why."""
    last: Event | None = None
    """What happened last."""
    behind: set[str] = field(default_factory=set[str])
    """Sides that what happened last did not happen to."""
    _happened: Counter[str] = field(default_factory=Counter[str])

    def order(self, kind: str) -> list[Side]:
        """The sides of the next event of this kind. Each goes first in its turn, and every other time the list is walked
        backwards: nobody always runs after the same one, with the heat or the noise that it left.
        """
        taking_part = [side for side in self.sides if side.name not in self.absent]
        before, number = self._happened[kind], len(taking_part)
        self._happened[kind] += 1
        step = -1 if before % 2 else 1
        return [taking_part[(before + step * place) % number] for place in range(number)]

    def catch_up(self) -> None:
        """Bring everybody to the files as they stand, untimed. Whoever cannot will say so when it is timed."""
        for side in self.sides:
            if side.name in self.behind and self.last is not None:
                event = replace(
                    self.last, suffixes=self.last.suffixes[:1], answer=1, think=False, restart=False
                )
                with contextlib.suppress(NotMeasured):
                    perform(side, event)
        self.behind.clear()


class Repeats:
    """One scenario, as often as it takes."""

    def __init__(
        self, round_: Round, scenario: Scenario, budget: Budget, index: int, show: Show, *, must: bool = False
    ) -> None:
        self._round, self._scenario, self._budget, self._show = round_, scenario, budget, show
        self._must = must
        self._until = budget.until(index, time.monotonic())
        self._faults: Counter[str] = Counter()
        self._hopeless: set[str] = set()
        self._longest = 0.0
        self._recording = True

    def run(self) -> None:
        """Fill the scenario's rows. At least one repeat is made while there is any time at all, or if it `must` be."""
        for row in self._scenario.rows:
            row.not_measured |= self._round.absent
            if not self._must and not self._budget.left(time.monotonic()):
                row.not_measured["all"] = "there was no time for it"
        if any("all" in row.not_measured for row in self._scenario.rows):
            return
        self._round.catch_up()
        if self._scenario.warms_up:
            self._recording = False
            self._repeat(0)
            self._recording = True
        for number in range(1, self._scenario.most + 1):
            self._show(f"{self._scenario.rows[0].key}, repeat {number}")
            self._repeat(number)
            if self._enough(number):
                break
            if number == HOPELESS_AFTER:
                self._give_up()

    def _give_up(self) -> None:
        """Leave out who is far behind."""
        peers = [side.name for side in self._round.sides if side.role == "peer"]
        self._hopeless = hopeless(self._scenario.rows, peers)
        for row in self._scenario.rows:
            row.not_measured |= dict.fromkeys(
                self._hopeless,
                f"left out after {HOPELESS_AFTER} repeats, all over {FAR_BEHIND:g} times another peer's",
            )

    def _repeat(self, number: int) -> None:
        begun = time.monotonic()
        if number and self._budget.left(begun) < self._longest:
            return
        for place, (row, event) in enumerate(self._scenario.steps()):
            load = OtherLoad()
            self._round.last = event
            order = self._round.order(f"{self._scenario.rows[0].key}, {place}")
            took = {side.name: self._one(side, row, event) for side in order}
            if row is not None and self._recording:
                _note(row, event, took, load.share())
        self._longest = max(self._longest, time.monotonic() - begun)

    def _one(self, side: Side, row: Row | None, event: Event) -> Took | None:
        """What the event cost this side; None if it could not be done, and the rows say why."""
        if side.name in self._hopeless or self._faults[side.name] >= GIVE_UP:
            self._round.behind.add(side.name)
            return None
        try:
            took = perform(side, event)
        except NotMeasured as error:
            self._faults[side.name] += 1
            for each in self._scenario.rows if row is None else [row]:
                each.not_measured[side.name] = str(error)[:MOST_SENTENCE]
            return None
        self._faults[side.name] = 0
        return took

    def _enough(self, number: int) -> bool:
        now = time.monotonic()
        if self._budget.left(now) < self._longest:
            return True
        if number < self._scenario.least:
            return False
        return now >= self._until or all(self._settled(row) for row in self._scenario.rows)

    def _settled(self, row: Row) -> bool:
        [ours] = [side.name for side in self._round.sides if side.role == "ours"]
        return settled(row, ours, [name for name in row.samples if name not in {ours, *self._hopeless}])


def _note(row: Row, event: Event, took: dict[str, Took | None], load: float) -> None:
    """Put one repeat of one row down, at the same place for all sides."""
    row.prefix_tokens = max(row.prefix_tokens, len(event.version.ids))
    for name, each in took.items():
        row.samples.setdefault(name, []).append(each)
    row.load.append(load)


def begin_all(round_: Round, begin: Callable[[Side], None]) -> None:
    """Let every side begin. Those that cannot are absent, and it is known why."""
    round_.absent = {}
    for side in round_.sides:
        try:
            begin(side)
        except NotMeasured as error:
            round_.absent[side.name] = str(error)[:MOST_SENTENCE]
