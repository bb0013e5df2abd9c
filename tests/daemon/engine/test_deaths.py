"""Deaths in a row, and the waits after them."""

from __future__ import annotations

import pytest

from sessiond.daemon.engine.deaths import CALM_S, FREE, MOST_S, Deaths


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deaths(clock: Clock) -> Deaths:
    return Deaths(clock)


def test_the_first_deaths_cost_no_wait(deaths: Deaths) -> None:
    assert deaths.wait_s == 0
    for _ in range(FREE):
        deaths.died("x")
        assert deaths.wait_s == 0


def test_each_wait_is_twice_the_one_before_it_up_to_the_longest(deaths: Deaths, clock: Clock) -> None:
    for _ in range(FREE):
        deaths.died("x")
    waits: list[float] = []
    for _ in range(9):
        deaths.died("x")
        waits.append(deaths.wait_s)
        clock.now += deaths.wait_s
        assert deaths.wait_s == 0
    assert waits == [1, 2, 4, 8, 16, 32, MOST_S, MOST_S, MOST_S]


def test_a_wait_passes(deaths: Deaths, clock: Clock) -> None:
    for _ in range(FREE + 3):
        deaths.died("x")
    assert deaths.wait_s == 4
    clock.now += 1.5
    assert deaths.wait_s == 2.5


@pytest.mark.parametrize(("row", "calm_s"), [(1, CALM_S), (FREE + 2, CALM_S), (FREE + 6, 32.0), (50, MOST_S)])
def test_a_time_without_death_begins_a_new_row(deaths: Deaths, clock: Clock, row: int, calm_s: float) -> None:
    for _ in range(row):
        deaths.died("x")
    clock.now += deaths.wait_s  # to wait is not to live
    deaths.stood()
    clock.now += calm_s - 0.1
    before = deaths.is_past
    clock.now += 0.2
    assert (before, deaths.is_past) == (False, True)
    deaths.died("x")
    assert (deaths.row, deaths.wait_s) == (1, 0)


def test_time_in_which_it_loads_is_no_calm(deaths: Deaths, clock: Clock) -> None:
    waits: list[float] = []
    for _ in range(FREE + 3):
        clock.now += deaths.wait_s + 10 * CALM_S
        deaths.stood()
        clock.now += 1
        deaths.died("x")
        waits.append(deaths.wait_s)
    assert waits == [0.0] * FREE + [1, 2, 4]


def test_while_none_stands_no_row_ends(deaths: Deaths, clock: Clock) -> None:
    for _ in range(FREE + 1):
        deaths.died("x")
    clock.now += 1000 * MOST_S
    assert not deaths.is_past
    deaths.died("x")
    assert (deaths.row, deaths.wait_s) == (FREE + 2, 2)


def test_it_says_how_many_of_what_and_when(deaths: Deaths, clock: Clock) -> None:
    for cause in ("one", "two", "three", "four"):
        deaths.died(cause)
    clock.now += 0.5
    said = deaths.sentence()
    assert "4 times" in said and "four" in said and "1.5 s" in said


def test_a_row_without_end_has_a_wait_with_one(deaths: Deaths) -> None:
    for _ in range(5000):
        deaths.died("x")
    assert deaths.wait_s == MOST_S
