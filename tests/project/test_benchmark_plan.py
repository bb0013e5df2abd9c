"""Who does what when: sides that are far behind are spared the rest of a scenario, and join the next one up to date."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest

from benchmark.budget import Budget
from benchmark.classes import LEAST_OF_WARM, Scenario, Steps
from benchmark.judge import HOPELESS_AFTER
from benchmark.plan import GIVE_UP, Repeats, Round
from benchmark.results import Row
from benchmark.sides import Event, Role, Work
from benchmark.statistics import LEAST_SAMPLES
from benchmark.texts import Piece
from benchmark.took import NotMeasured, Took
from benchmark.versions import Version


class Scripted:
    """A side whose turns take what it is told, so that the plan alone decides."""

    flags: Sequence[str] = ()

    def __init__(self, name: str, role: Role, ms: float) -> None:
        self.name, self.ms = name, ms
        self.role: Role = role
        self.seen: list[str] = []

    def begin(self, work: Work) -> None:
        """See Side."""

    def save(self, version: Version) -> None:
        """See Side."""
        self.seen.append(version.text)

    def think(self) -> float:
        """See Side."""
        return 0.0

    def restart(self) -> None:
        """See Side."""

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """See Side."""
        return Took(first_token_ms=self.ms)

    def together(self, version: Version, suffixes: Sequence[Piece], answer: int) -> Took:
        """See Side."""
        return Took(first_token_ms=self.ms)

    def rest(self) -> None:
        """See Side."""

    def keep(self) -> None:
        """See Side."""

    def close(self) -> None:
        """See Side."""


class Failing(Scripted):
    """It breaks off, while it is told to."""

    fails = False

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """See Side."""
        if self.fails:
            raise NotMeasured("it broke off")
        return super().turn(client, version, suffix, answer)


def scenario(name: str, *, warm: bool = False) -> Scenario:
    row = Row("edit", name, 1000, warm=warm)

    def steps() -> Steps:
        yield row, Event(Version({}, f"{name} {len(row.load)}", ()), (Piece("?", (1,)),))

    return Scenario("edit", (row,), steps, 1000, 9)


def done(round_: Round, each: Scenario) -> Row:
    Repeats(round_, each, Budget(60.0, [1], time.monotonic()), 0, lambda _what: None).run()
    return each.rows[0]


def test_who_is_far_behind_is_left_out_of_the_rest_and_catches_up() -> None:
    ours, fast = Scripted("ours", "ours", 9.0), Scripted("fast", "peer", 10.0)
    near, slow = Scripted("near", "peer", 19.0), Scripted("slow", "peer", 21.0)
    round_ = Round([ours, fast, near, slow])

    first = done(round_, scenario("first"))

    kept = {name: sum(took is not None for took in samples) for name, samples in first.samples.items()}
    assert kept == {
        "ours": LEAST_SAMPLES,
        "fast": LEAST_SAMPLES,
        "near": LEAST_SAMPLES,
        "slow": HOPELESS_AFTER,
    }
    assert list(first.not_measured) == ["slow"]

    done(round_, scenario("second"))

    assert slow.seen[HOPELESS_AFTER : HOPELESS_AFTER + 2] == [f"first {LEAST_SAMPLES - 1}", "second 0"]
    assert ours.seen[LEAST_SAMPLES] == "second 0", "who was there need not catch up"


def test_ours_is_never_left_out() -> None:
    ours, peer = Scripted("ours", "ours", 900.0), Scripted("peer", "peer", 10.0)
    row = done(Round([ours, peer]), scenario("slow"))
    assert not row.not_measured
    assert len(row.samples["ours"]) == LEAST_SAMPLES


def test_warm_rows_are_repeated_more_often() -> None:
    row = done(Round([Scripted("ours", "ours", 10.0)]), scenario("warm", warm=True))
    assert len(row.samples["ours"]) == LEAST_OF_WARM > LEAST_SAMPLES


@pytest.mark.parametrize("number", [2, 4, 5, 8])
def test_each_side_begins_in_its_turn_whatever_else_happens_in_a_repeat(number: int) -> None:
    sides = [Scripted(str(index), "peer", 1.0) for index in range(number)]
    round_ = Round(sides)
    orders: list[list[str]] = []
    for _ in range(2 * number):
        for _ in range(number - 1):
            round_.order("second")
        orders.append([side.name for side in round_.order("first")])

    assert all(sorted(order) == sorted(side.name for side in sides) for order in orders)
    assert Counter(order[0] for order in orders) == {side.name: 2 for side in sides}
    before = Counter(pair for order in orders for pair in pairwise(order))
    assert all((after, first) in before for first, after in before), "nobody follows the same one each time"


def test_who_fails_again_and_again_catches_up_before_the_next_scenario() -> None:
    ours, lost = Scripted("ours", "ours", 9.0), Failing("lost", "peer", 10.0)
    round_ = Round([ours, lost])
    lost.fails = True
    done(round_, scenario("first"))
    lost.fails = False
    done(round_, scenario("second"))
    assert lost.seen[GIVE_UP : GIVE_UP + 2] == [f"first {LEAST_SAMPLES - 1}", "second 0"]
