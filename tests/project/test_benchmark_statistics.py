"""Medians and their intervals hold for any noise, and time is shared out without a rest."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.budget import Budget
from benchmark.statistics import (
    CONFIDENCE,
    LEAST_SAMPLES,
    bootstrap,
    estimate,
    interval_rank,
    paired_ratios,
)

TIMES = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=60)


@given(TIMES)
def test_the_median_lies_in_its_interval_and_that_within_the_samples(values: list[float]) -> None:
    found = estimate(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.samples == len(values)


@given(TIMES, st.floats(0.5, 2.0))
def test_a_faster_machine_changes_no_width(values: list[float], factor: float) -> None:
    assert estimate([value * factor for value in values]).width == pytest.approx(estimate(values).width)


@given(TIMES, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_count(values: list[float], rng: random.Random) -> None:
    other = values.copy()
    rng.shuffle(other)
    assert estimate(other) == estimate(values)


@pytest.mark.parametrize("samples", range(LEAST_SAMPLES, 200))
def test_an_interval_is_as_sure_as_it_says_and_no_wider_than_it_must_be(samples: int) -> None:
    def sure(rank: int) -> float:
        return 1 - 2 * sum(math.comb(samples, below) for below in range(rank + 1)) * 0.5**samples

    rank = interval_rank(samples)
    assert sure(rank) >= CONFIDENCE
    assert sure(rank + 1) < CONFIDENCE


@pytest.mark.parametrize("samples", [5, 8, 15])
def test_the_true_median_is_missed_no_more_often_than_that(samples: int) -> None:
    rng = random.Random(samples)
    rounds = 2_000
    # Skewed, and with outliers that lie on both sides, so that the true median stays 1.
    drawn = [
        [rng.lognormvariate(0, 0.3) * rng.choice([1] * 18 + [3, 1 / 3]) for _ in range(samples)]
        for _ in range(rounds)
    ]
    hits = sum(found.low <= 1 <= found.high for found in map(estimate, drawn))
    assert hits / rounds > CONFIDENCE - 0.02


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([1.0] * 4, "too few (4)"),
        ([1.0] * 5, ""),
        ([1.0, 1.0, 2.0, 3.0, 3.0], "too wide"),
        ([1.0, 1.1, 1.1, 1.2, 1.3], ""),
    ],
)
def test_what_says_nothing_says_why(values: list[float], fault: str) -> None:
    assert estimate(values).fault == fault


def test_one_outlier_makes_no_interval_wide() -> None:
    assert estimate([1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 3.0]).narrow


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_no_figure_is_made_of_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        estimate(values)


def test_only_repeats_that_both_have_make_pairs() -> None:
    assert paired_ratios([2.0, None, 6.0, 8.0, 9.0], [1.0, 2.0, 3.0, None]) == [2.0, 2.0]
    assert paired_ratios([2.0], [0.0]) == []


@given(st.lists(st.floats(1, 10), min_size=1, max_size=20))
def test_a_bootstrap_is_the_same_again_and_within_the_samples(values: list[float]) -> None:
    low, high = bootstrap(lambda drawn: statistics.median(drawn(values)), rounds=50)
    assert (low, high) == bootstrap(lambda drawn: statistics.median(drawn(values)), rounds=50)
    assert min(values) <= low <= high <= max(values)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1)), min_size=1, max_size=20), st.floats(1, 1000)
)
def test_work_that_ends_early_leaves_its_time_to_what_follows(
    works: list[tuple[int, float]], seconds: float
) -> None:
    budget, now = Budget(seconds, [cost for cost, _ in works], 0.0), 0.0
    for index, (_, used) in enumerate(works):
        until = budget.until(index, now)
        assert now <= until <= budget.end + 1e-6
        now += (until - now) * used
    assert budget.until(len(works) - 1, now) == pytest.approx(budget.end)
    assert budget.left(budget.end) == 0.0


def test_too_few_and_too_wide_are_two_faults() -> None:
    few, wide = estimate([1.0, 9.0]), estimate([1.0, 1.0, 2.0, 3.0, 3.0])
    assert (few.too_few, few.too_wide) == (True, True)
    assert (wide.too_few, wide.too_wide) == (False, True)
