"""What stands where, and what an edit costs there."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.workspace.order import (
    BYTES_PER_TOKEN,
    calmest_first,
    edit_costs,
    edits_per_token,
    expected_cost,
    hottest_first,
)


def test_an_edit_costs_half_its_segment_and_all_behind_it() -> None:
    assert edit_costs([10, 4, 6]) == [15.0, 8.0, 3.0]
    assert edit_costs([]) == []


def test_the_expected_cost_is_the_mean_by_weight() -> None:
    assert expected_cost([10, 4, 6], [1, 0, 3]) == (15.0 + 3 * 3.0) / 4
    assert expected_cost([10, 4, 6], [0, 0, 0]) == 0.0
    assert expected_cost([], []) == 0.0


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_positive_number_counts_nothing(weight: float) -> None:
    assert edits_per_token(weight, 100) == 0.0
    assert expected_cost([10, 4], [weight, 2.0]) == 2.0
    assert calmest_first(["b", "a"], {}, {"a": weight}) == ["a", "b"]


def test_without_weights_both_orders_are_that_of_the_paths_as_bytes() -> None:
    paths = ["é", "b", "a/c", "a.txt", "Z", "a-b"]
    assert hottest_first(paths, {}, {}) == calmest_first(paths, {}, {}) == sorted(paths, key=str.encode)


def test_among_equals_the_readme_stands_first() -> None:
    assert calmest_first(["A", "README.md", "docs/README.md"], {}, {}) == ["README.md", "A", "docs/README.md"]
    assert calmest_first(["A", "README.md"], {"README.md": 4}, {"README.md": 1}) == ["A", "README.md"]


def test_size_counts_as_much_as_edits() -> None:
    sizes = {"large": 4_000, "small": 400, "tiny": 0}
    weights = {"large": 5.0, "small": 1.0, "tiny": 0.001}
    assert edits_per_token(1.0, 0) == edits_per_token(1.0, BYTES_PER_TOKEN) == 1.0
    assert calmest_first(sizes, sizes, weights) == ["tiny", "large", "small"]
    assert hottest_first(sizes, sizes, weights) == ["small", "large", "tiny"]


_files = st.lists(st.tuples(st.integers(1, 2_000), st.floats(0, 20)), min_size=1, max_size=5)


@given(files=_files)
def test_no_other_order_has_a_lower_expected_cost(files: list[tuple[int, float]]) -> None:
    tokens = {f"{index}": size for index, (size, _) in enumerate(files)}
    weights = {f"{index}": weight for index, (_, weight) in enumerate(files)}

    def cost(order: tuple[str, ...]) -> float:
        return expected_cost([tokens[path] for path in order], [weights[path] for path in order])

    sizes = {path: count * BYTES_PER_TOKEN for path, count in tokens.items()}
    chosen = cost(tuple(calmest_first(tokens, sizes, weights)))
    assert chosen <= min(map(cost, permutations(tokens))) * (1 + 1e-9)


@given(paths=st.lists(st.text(max_size=3), unique=True, max_size=8), data=st.data())
def test_the_order_does_not_depend_on_how_the_files_come(paths: list[str], data: st.DataObject) -> None:
    weights = data.draw(st.dictionaries(st.sampled_from([*paths, "other"]), st.sampled_from([0.5, 1.0, 2.0])))
    sizes = dict.fromkeys(paths, 100)
    shuffled = data.draw(st.permutations(paths))
    assert calmest_first(shuffled, sizes, weights) == calmest_first(paths, sizes, weights)
    assert hottest_first(shuffled, sizes, weights) == hottest_first(paths, sizes, weights)
