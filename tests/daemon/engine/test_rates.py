"""What is known of this machine's speed, and what is made of it."""

from __future__ import annotations

import pytest

from sessiond.daemon.engine.rates import AGAIN_S, FEWEST, Rates


def test_the_first_measurement_replaces_the_guess() -> None:
    rates = Rates()
    guess = rates.tokens_a_second
    rates.computed(100, 0.01)
    assert guess != rates.tokens_a_second == pytest.approx(10_000)


def test_later_ones_count_a_little() -> None:
    rates = Rates()
    rates.computed(100, 0.01)
    rates.computed(100, 0.1)
    assert 1_000 < rates.tokens_a_second < 10_000
    for _ in range(50):
        rates.computed(100, 0.1)
    assert rates.tokens_a_second == pytest.approx(1_000, rel=0.01)


def test_what_says_nothing_of_bulk_work_does_not_count() -> None:
    rates = Rates()
    guess = rates.tokens_a_second
    rates.computed(FEWEST - 1, 10.0)
    rates.computed(100, 0.0)
    rates.restored(1000, 0.0)
    assert rates.tokens_a_second == guess


def test_a_small_batch_is_judged_by_small_ones() -> None:
    rates = Rates()
    rates.computed(1000, 1.0)
    assert rates.seconds(1) >= 1.0, "rather too much than too little, where none was seen"
    rates.step.took(1, 0.3)
    assert rates.seconds(1) == pytest.approx(0.3)
    assert rates.seconds(1000) == pytest.approx(1.0)


def test_restoring_pays_where_it_is_faster() -> None:
    rates = Rates()
    rates.computed(1000, 1.0)
    rates.restored(1 << 30, 1.0)
    assert rates.restoring_pays(1000, 1000 << 10)
    assert not rates.restoring_pays(1, 1 << 30)
    assert not rates.restoring_pays(0, 0)
    rates = Rates()
    rates.computed(1000, 0.001)
    rates.restored(1 << 20, 1.0)
    assert not rates.restoring_pays(1000, 1000 << 10)


class _Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


_TOKENS, _SIZE = 1000, 1 << 25
"""A restore that pays from a disk as it is guessed to be."""


def _slow() -> tuple[Rates, _Clock]:
    clock = _Clock()
    rates = Rates(clock)
    rates.computed(1000, 1.0)
    assert rates.fetching_pays(_TOKENS, _SIZE)
    while rates.fetching_pays(_TOKENS, _SIZE):
        rates.fetched(_SIZE, 100.0)
    return rates, clock


def test_a_disk_that_was_slow_is_tried_again_after_a_while() -> None:
    rates, clock = _slow()
    clock.now += AGAIN_S - 1.0
    assert not rates.fetching_pays(_TOKENS, _SIZE)
    clock.now += 1.0
    assert rates.fetching_pays(_TOKENS, _SIZE)
    assert not rates.fetching_pays(1, 1 << 40), "what no disk that is guessed at can do is not tried"


def test_one_try_is_enough_to_know_that_it_is_still_slow() -> None:
    rates, clock = _slow()
    for _ in range(3):
        clock.now += AGAIN_S
        assert rates.fetching_pays(_TOKENS, _SIZE)
        rates.fetched(_SIZE, 100.0)
        assert not rates.fetching_pays(_TOKENS, _SIZE)


def test_a_disk_that_is_fast_again_is_used_again() -> None:
    rates, clock = _slow()
    clock.now += AGAIN_S
    rates.fetched(_SIZE, 0.01)
    assert rates.fetching_pays(_TOKENS, _SIZE)


def test_a_fast_disk_is_not_taken_for_a_slower_one_after_a_while() -> None:
    clock = _Clock()
    rates = Rates(clock)
    rates.computed(100_000, 1.0)
    while not rates.fetching_pays(_TOKENS, 8 << 20):
        rates.fetched(1 << 30, 0.1)
    clock.now += 2 * AGAIN_S
    assert rates.fetching_pays(_TOKENS, 8 << 20)
