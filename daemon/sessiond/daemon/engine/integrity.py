"""Compares a token tree with itself and with what the backend reports."""

from __future__ import annotations

from sessiond.daemon.engine.node import Node
from sessiond.daemon.engine.tree import TokenTree


def check_tree(tree: TokenTree) -> None:
    """Raises AssertionError if anything does not agree. Between two batches only."""
    context = tree.cells.context
    sequences: list[int] = []
    used = 0
    for node in tree.root.below():
        _check_shape(tree, node)
        if not node.resident:
            continue
        used += len(node.tokens)
        if node.is_leaf and node.parent is not None:
            assert node.sequence is not None, "a leaf without a sequence"
            assert context.end(node.sequence) == node.end, "the backend holds another length"
            sequences.append(node.sequence)
        else:
            assert node.sequence is None, "an inner node with a sequence"
    free = tree.cells.free
    assert not tree.cells.promising, "an extend that nothing followed"
    assert used == tree.cells.used <= tree.cells.capacity, "the count of used cells is wrong"
    assert len(set(sequences)) == len(sequences), "two leaves with one sequence"
    assert sorted([*sequences, *free]) == list(range(context.max_sequences)), "a sequence is lost"
    assert all(context.end(sequence) == 0 for sequence in free), "a free sequence is not empty"


def _check_shape(tree: TokenTree, node: Node) -> None:
    start = node.parent.end if node.parent else 0
    assert node.end == start + len(node.tokens), "a node's end is not its parent's plus its tokens"
    for key, child in node.children.items():
        assert child.parent is node, "a child that has another parent"
        assert child.tokens and key == child.tokens[0], "a child under a wrong token"
        assert node.resident or not child.resident, "cells below a node that has none"
    for branch in node.tips:
        assert tree.tips[branch] is node, "a tip that its branch does not know"
    assert node.resident or node.kept, "a node without cells that keeps nothing"
