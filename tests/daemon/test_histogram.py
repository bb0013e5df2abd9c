"""The histogram counts each duration where Prometheus expects it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.histogram import QUICK_S, SLOW_S, Histogram


@given(st.lists(st.floats(0, 1e6)))
def test_each_bucket_holds_what_took_at_most_so_long(durations: list[float]) -> None:
    histogram = Histogram(QUICK_S)
    for seconds in durations:
        histogram.add(seconds)
    buckets = histogram.buckets()
    assert buckets[-1][0] == "+Inf"
    for border, count in buckets:
        assert count == sum(seconds <= float(border) for seconds in durations)
    assert histogram.count == len(durations)
    assert histogram.sum_s == pytest.approx(math.fsum(durations))


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -0.001])
def test_what_is_no_duration_is_left_out(seconds: float) -> None:
    histogram = Histogram(SLOW_S)
    histogram.add(1.0)
    histogram.add(seconds)
    assert (histogram.count, histogram.sum_s, histogram.mean_s) == (1, 1.0, 1.0)


def test_the_mean_of_nothing_is_nothing() -> None:
    assert Histogram(SLOW_S).mean_s == 0.0


@pytest.mark.parametrize("borders", [QUICK_S, SLOW_S])
def test_borders_rise(borders: tuple[float, ...]) -> None:
    assert list(borders) == sorted(set(borders))
