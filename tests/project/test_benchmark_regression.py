"""The check for losses finds a fifth, whatever the noise, and nothing where nothing was lost."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.project.test_benchmark_results import report, row

from benchmark.regression import Ratios, compared, told, warm_ratios
from benchmark.results import Report

ROWS, REPEATS = 6, 15
NOISE, OUTLIERS, OUTLIER = 0.10, 0.05, 3.0
"""What a shared host does to a time: up to a tenth either way, and now and then three times as long."""


def disturbed(rng: random.Random) -> float:
    return rng.uniform(1 - NOISE, 1 + NOISE) * (OUTLIER if rng.random() < OUTLIERS else 1.0)


def run(seed: int, loss: float = 1.0, rows: int = ROWS, repeats: int = REPEATS) -> Report:
    """A run on a machine of some speed, whose warm turns take so many times as long as they should."""
    rng = random.Random(seed)
    speed = rng.uniform(0.5, 2.0)
    made = []
    for index in range(rows):
        floor = 20.0 * (index + 1)
        # A slow minute is slow for both sides of its pairs.
        minutes = [speed * disturbed(rng) for _ in range(repeats)]
        ours = [floor * 1.05 * loss * minute * disturbed(rng) for minute in minutes]
        made.append(row(f"row {index}", ours, [floor * minute * disturbed(rng) for minute in minutes]))
    return report(*made)


def status(old: Report, *news: Report) -> tuple[int, str]:
    stream = io.StringIO()
    return told(old, news, stream), stream.getvalue()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9))
def test_a_fifth_is_always_found(seed: int) -> None:
    found, words = status(run(seed), run(seed + 1, loss=1.2))
    assert found == 1, words
    assert "LOST: the warm path as a whole" in words or "LOST: row " in words, words


def test_a_fifth_of_everything_is_told_as_a_whole() -> None:
    assert "LOST: the warm path as a whole" in status(run(1), run(2, loss=1.2))[1]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9))
def test_noise_is_never_a_loss(seed: int) -> None:
    found, words = status(run(seed), run(seed + 1))
    assert found == 0, words


def test_ten_runs_in_a_row_pass_and_a_planted_loss_among_them_fails() -> None:
    same = [run(seed) for seed in range(1, 11)]
    found, words = status(run(0), *same)
    assert (found, words.count("nothing was lost")) == (0, 10)
    found, words = status(run(0), *same, run(11, loss=1.2))
    assert (found, words.count("nothing was lost")) == (1, 10)


def test_a_gain_is_no_loss() -> None:
    assert status(run(1), run(2, loss=0.7))[0] == 0


def test_one_row_that_lost_much_is_found_among_others() -> None:
    new = run(2)
    new.rows[3] = run(3, loss=1.6).rows[3]
    found, words = status(run(1), new)
    assert found == 1
    assert "LOST: row 3 @ 1000" in words


def steady(seed: int, loss: float = 1.0) -> Report:
    """Four rows of a quiet machine, whose pairs spread by 3 %. One row takes so many times as long as it should."""
    rng = random.Random(seed)
    rows = []
    for index in range(4):
        ms = 22.0 * (loss if index == 2 else 1.0)
        rows.append(row(f"row {index}", [ms * rng.gauss(1, 0.03) for _ in range(REPEATS)], [20.0] * REPEATS))
    return report(*rows)


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_a_fifth_of_a_single_row_is_found_and_in_no_other_row(seed: int) -> None:
    found, words = status(steady(seed), steady(seed + 1, loss=1.2))
    assert found == 1, words
    assert words.count("LOST: row") == 1
    assert "LOST: row 2 @ 1000" in words
    assert status(steady(seed), steady(seed + 1))[0] == 0


@pytest.mark.parametrize("pairs", [0, 4])
def test_a_row_that_the_new_run_lacks_is_told(pairs: int) -> None:
    new = run(2)
    new.rows[3].samples["sessiond"][pairs:] = []
    found, words = status(run(1), new)
    assert found == 2
    assert "nothing was lost elsewhere" in words
    assert (
        "nothing can be said of row 3 @ 1000: this run has fewer than 5 pairs of it with the floor" in words
    )
    del new.rows[3]
    assert status(run(1), new) == (2, words)


def test_a_row_that_only_the_new_run_has_is_no_loss() -> None:
    old = run(1)
    del old.rows[3]
    assert status(old, run(2))[0] == 0


def test_a_loss_counts_more_than_a_row_that_is_lacking() -> None:
    new = run(2, loss=1.5)
    del new.rows[3]
    found, words = status(run(1), new)
    assert found == 1
    assert "LOST" in words and "nothing can be said of row 3" in words


def test_runs_of_two_models_are_not_compared() -> None:
    other = run(2, loss=2.0)
    other.model.name, other.model.digest = "b.gguf", "11"
    found, words = status(run(1), other)
    assert found == 2
    assert "the models are not the same: a.gguf (00) and b.gguf (11)" in words
    assert "LOST" not in words


def test_another_machine_is_no_reason_not_to_compare() -> None:
    other = run(2)
    other.machine.cpu = "another CPU"
    assert status(run(1), other)[0] == 0


def test_a_slower_machine_is_no_loss() -> None:
    old, new = run(1), run(1)
    for each in new.rows:
        for side, samples in each.samples.items():
            each.samples[side] = [
                type(took)(first_token_ms=took.first_token_ms * 7) for took in samples if took
            ]
    assert compared(warm_ratios(old), warm_ratios(new)).losses == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ({}, {"a": [1.0] * 9}, "no warm row"),
        ({"a": [1.0] * 9}, {"b": [1.0] * 9}, "no warm row"),
        ({"a": [1.0, 1.0, 1.0, 3.0, 3.0]}, {"a": [1.0, 1.0, 3.0, 3.0, 3.0]}, "too noisy"),
    ],
)
def test_where_nothing_can_be_said_nothing_is_said(old: Ratios, new: Ratios, why: str) -> None:
    finding = compared(old, new)
    assert finding.unclear.startswith((why, "the runs are too noisy"))
    assert finding.losses == []


def test_runs_with_too_few_pairs_are_status_2() -> None:
    found, words = status(run(1, repeats=4), run(2, repeats=4))
    assert (found, "nothing can be said" in words) == (2, True)


def test_only_warm_first_tokens_are_held() -> None:
    kept = run(1, rows=3)
    kept.rows[0].warm = False
    kept.rows[1].metric = "token_ms"
    assert list(warm_ratios(kept)) == ["row 2 @ 1000"]
