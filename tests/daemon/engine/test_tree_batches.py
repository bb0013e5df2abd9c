"""Branches of one tree that are made ready for the same batch."""

from __future__ import annotations

import pytest
from tests.daemon.engine.scripted import kv_context, load

from sessiond.adapters.base import NoRoom, Run
from sessiond.daemon.engine.integrity import check_tree
from sessiond.daemon.engine.tree import TokenTree


def _tree(*, num_ctx: int = 64, max_sequences: int = 8) -> TokenTree:
    return TokenTree(kv_context(load(f"scripted-kv:max_sequences={max_sequences}"), num_ctx=num_ctx))


def _hold(tree: TokenTree, branch: str, tokens: list[int]) -> None:
    tree.open(branch)
    tree.walk(branch, tokens)
    at = tree.length(branch)
    if at < len(tokens):
        sequence, position = tree.extend(branch, len(tokens) - at)
        tree.cells.context.decode([Run(sequence, position, tokens[at:])])
        tree.grow(branch, tokens[at:])
    assert tree.tokens(branch) == tokens


def test_two_that_fit_alone_but_not_together_are_told_before_the_decode() -> None:
    tree = _tree(num_ctx=16)
    _hold(tree, "one", [1] * 4)
    _hold(tree, "two", [2] * 4)
    one, at_one = tree.extend("one", 6)
    with pytest.raises(NoRoom):  # 8 cells are held, 6 are promised, and 2 are left
        tree.extend("two", 6)
    tree.cells.context.decode([Run(one, at_one, [1] * 6)])
    tree.grow("one", [1] * 6)
    check_tree(tree)


def test_what_is_promised_to_one_is_evicted_for_the_other() -> None:
    tree = _tree(num_ctx=16)
    _hold(tree, "gone", [0] * 8)
    tree.close("gone")
    for name in ("one", "two"):
        tree.open(name)
    runs = [Run(*tree.extend(name, 6), [token] * 6) for token, name in ((1, "one"), (2, "two"))]
    tree.cells.context.decode(runs)
    tree.grow("one", [1] * 6)
    tree.grow("two", [2] * 6)
    check_tree(tree)


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
@pytest.mark.parametrize("second", [[7, 8], [7, 9], [6, 9]])
def test_two_from_one_tip_are_settled_in_either_order(order: tuple[str, str], second: list[int]) -> None:
    tree = _tree()
    _hold(tree, "one", [1, 2, 3])
    _hold(tree, "two", [1, 2, 3])
    more = {"one": [7, 8], "two": second}
    tree.cells.context.decode([Run(*tree.extend(name, 2), more[name]) for name in ("one", "two")])
    for name in order:
        tree.grow(name, more[name])
    check_tree(tree)
    first, later = order
    tree.walk(first, [1, 2, 3, *more[first]])
    assert tree.length(first) == 5
    kept = 5 if more[later] == more[first] or more[later][0] != more[first][0] else 4
    tree.walk(later, [1, 2, 3, *more[later]])
    assert tree.length(later) == kept


def test_a_tip_gets_its_child_s_sequence_while_its_own_extension_is_under_way() -> None:
    """The eviction for the second one takes what stood behind the tip of the first one."""
    tree = _tree(max_sequences=3)
    _hold(tree, "one", [1, 2])
    _hold(tree, "two", [5])
    tree.walk("one", [1])  # and nobody holds [1, 2] any more
    first, at_first = tree.extend("one", 1)
    tree.walk("two", [])
    second, at_second = tree.extend("two", 1)
    tree.cells.context.decode([Run(first, at_first, [3]), Run(second, at_second, [6])])
    tree.grow("one", [3])
    tree.grow("two", [6])
    check_tree(tree)


def test_a_part_of_a_batch_that_was_aborted_before_it_leaves_nothing() -> None:
    tree = _tree()
    _hold(tree, "one", [1, 2, 3])
    _hold(tree, "two", [1, 2, 3])
    one, at_one = tree.extend("one", 4)
    tree.extend("two", 4)
    tree.cells.context.decode([Run(one, at_one, [4, 5])])
    tree.grow("one", [4, 5])
    tree.release("two")
    check_tree(tree)
    assert (tree.tokens("one"), tree.tokens("two")) == ([1, 2, 3, 4, 5], [1, 2, 3])
