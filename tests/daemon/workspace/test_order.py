"""What stands where, and what an edit costs there."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.workspace.order import BY_PATH, HORIZON, Order, edit_costs, expected_cost


def test_an_edit_costs_half_its_segment_and_all_behind_it() -> None:
    assert edit_costs([10, 4, 6]) == [15.0, 8.0, 3.0]
    assert edit_costs([]) == []


def test_the_expected_cost_is_the_mean_by_weight() -> None:
    assert expected_cost([10, 4, 6], [1, 0, 3]) == (15.0 + 3 * 3.0) / 4
    assert expected_cost([10, 4, 6], [0, 0, 0]) == 0.0
    assert expected_cost([], []) == 0.0


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_positive_number_counts_nothing(weight: float) -> None:
    assert expected_cost([10, 4], [weight, 2.0]) == 2.0
    assert Order.of({"b": 9, "a": 9}, {"a": weight}).calmest_first(["b", "a"]) == ["a", "b"]


def test_without_edits_all_orders_are_that_of_the_paths_as_bytes() -> None:
    paths = ["\u00e9", "b", "a/c", "a.txt", "Z", "a-b"]
    for order in (BY_PATH, Order.of({}, {"a": 1.0}), Order.of(dict.fromkeys(paths, 7), {})):
        assert order.hottest_first(paths) == order.calmest_first(paths) == sorted(paths, key=str.encode)


def test_among_equals_the_readme_stands_first() -> None:
    order = Order.of(dict.fromkeys(("A", "README.md", "docs/README.md"), 4), {})
    assert order.calmest_first(order.rates) == ["README.md", "A", "docs/README.md"]


def test_each_file_counts_together_with_an_average_one() -> None:
    order = Order.of({"small": 100, "large": 900}, {"large": 4.0})
    assert order.rates == {"small": 2 / 600, "large": 6 / 1400}


def test_a_small_file_is_neither_calm_nor_hot_for_being_small() -> None:
    sizes = {"large": 20_000, "middle": 4_000, "tiny": 10, "empty": 0, "once": 10}
    order = Order.of(sizes, {"large": 1.0, "middle": 9.0, "once": 1.0})
    assert order.calmest_first(sizes) == ["large", "tiny", "empty", "once", "middle"]


def test_what_is_new_stands_last_and_counts_as_the_hottest() -> None:
    order = Order.of({"a": 10, "b": 30}, {"a": 1.0})
    assert order.calmest_first(["new", "b", "Z", "a"]) == ["b", "a", "Z", "new"]
    assert order.hottest_first(["new", "b", "Z", "a"]) == ["Z", "new", "a", "b"]
    assert order.weight("new", 10) == order.weight("a", 10) > order.weight("b", 10)
    assert BY_PATH.weight("new", 10) == 0.0


_files = st.lists(st.tuples(st.integers(1, 2_000), st.floats(0, 20)), min_size=1, max_size=5)


@given(files=_files)
def test_no_other_order_has_a_lower_expected_cost(files: list[tuple[int, float]]) -> None:
    sizes = {f"{index}": size for index, (size, _) in enumerate(files)}
    order = Order.of(sizes, {f"{index}": weight for index, (_, weight) in enumerate(files)})

    def cost(paths: tuple[str, ...]) -> float:
        tokens = [sizes[path] for path in paths]
        return expected_cost(tokens, [order.weight(path, sizes[path]) for path in paths])

    chosen = cost(tuple(order.calmest_first(sizes)))
    assert chosen <= min(map(cost, permutations(sizes))) * (1 + 1e-9)


@given(paths=st.lists(st.text(max_size=3), unique=True, max_size=8), data=st.data())
def test_the_order_does_not_depend_on_how_the_files_come(paths: list[str], data: st.DataObject) -> None:
    weights = data.draw(st.dictionaries(st.sampled_from([*paths, "other"]), st.sampled_from([0.5, 1.0, 2.0])))
    shuffled = data.draw(st.permutations(paths))
    one, other = (Order.of(dict.fromkeys(each, 100), weights) for each in (paths, shuffled))
    assert one.calmest_first(paths) == other.calmest_first(shuffled)
    assert one.hottest_first(paths) == other.hottest_first(shuffled)


def test_an_order_is_worth_it_if_it_moves_what_is_edited() -> None:
    sizes = dict.fromkeys("abcd", 1_000)
    old = Order.of(sizes, {"d": 9.0})
    assert not old.is_worth_it(old, sizes)
    turned = Order.of(sizes, {"a": 9.0})
    assert turned.is_worth_it(old, sizes)
    assert not turned.is_worth_it(old, {"a": 1_000}), "it moves nothing that stands there"
    assert not turned.is_worth_it(old, {})


@pytest.mark.parametrize("more", [0.001, 0.01, 0.02, 0.03, 0.1, 1.0])
def test_what_a_new_order_saves_over_the_horizon_is_held_against_what_it_costs(more: float) -> None:
    sizes = {"a": 1_000, "b": 1_000}
    new = Order.of(sizes, {"a": 1.0 + more, "b": 1.0})
    a, b = (new.weight(path, 1_000) for path in sizes)
    saved_by_each_edit = 1_000 * (a - b) / (a + b)
    assert new.is_worth_it(BY_PATH, sizes) == (saved_by_each_edit * HORIZON > 2_000)
    assert new.is_worth_it(BY_PATH, sizes) == (more >= 0.1)
