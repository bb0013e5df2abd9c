"""As much as fits, found by counting little."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.workspace.repo_map.fit import most_that_fit


@given(lines=st.lists(st.integers(0, 40), max_size=300), max_tokens=st.integers(1, 3_000))
def test_one_more_would_not_fit(lines: list[int], max_tokens: int) -> None:
    totals = list(accumulate(lines, initial=0))
    found = most_that_fit(lambda counts: [totals[count] for count in counts], len(lines), max_tokens)
    assert totals[found] <= max_tokens
    assert found == len(lines) or totals[found + 1] > max_tokens


@given(totals=st.lists(st.integers(0, 100), max_size=60), max_tokens=st.integers(1, 100))
def test_what_was_not_counted_is_not_taken(totals: list[int], max_tokens: int) -> None:
    """A tokenizer may need fewer tokens for a longer text."""
    counted: dict[int, int] = {0: 0}

    def tokens_of(counts: Sequence[int]) -> list[int]:
        assert all(0 < count <= len(totals) for count in counts)
        counted.update((count, totals[count - 1]) for count in counts)
        return [counted[count] for count in counts]

    assert counted[most_that_fit(tokens_of, len(totals), max_tokens)] <= max_tokens


def test_few_calls_and_no_text_many_times_too_long() -> None:
    calls: list[list[int]] = []

    def tokens_of(counts: Sequence[int]) -> list[int]:
        calls.append(list(counts))
        return [count * 12 for count in counts]

    assert most_that_fit(tokens_of, 100_000, 2_400) == 200
    assert len(calls) <= 6
    assert max(max(counts) for counts in calls) <= 600


def test_nothing_to_fit_asks_nothing() -> None:
    assert most_that_fit(lambda counts: [1 // 0], 0, 10) == 0
