"""What is known of this machine's speed, and what is made of it."""

from __future__ import annotations

import pytest

from sessiond.daemon.engine.rates import FEWEST, Rates


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
