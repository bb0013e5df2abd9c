"""What holds of every token tree over a scripted context, whatever was done to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sessiond.adapters.scripted import answers
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.daemon.engine.integrity import check_tree
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.node import Node
from sessiond.daemon.engine.tree import TokenTree

Path = tuple[int, ...]


def check_cells(tree: TokenTree, context: ScriptedKv) -> None:
    """The tree agrees with the backend, no cell is taken by nobody, and every cell holds what was computed for exactly
    the tokens that lead to it.
    """
    check_tree(tree)
    assert context.used_cells == tree.cells.used
    for node in tree.root.below():
        if node.resident and node.is_leaf and node.sequence is not None:
            cells = context._held[node.sequence]
            state, path = context._root, tokens_to(node)
            assert [cell.token for cell in cells] == path
            for cell in cells:
                state = answers.step(state, cell.token)
                assert cell.state == state, "KV of other tokens"


def check_tier(trees: Iterable[TokenTree], tier: MemoryTier) -> None:
    """Its count is that of the bytes that nodes keep, and within the limit but for checkpoints: those that branches stand
    on are kept whatever the limit, and go when the next is added after the branches went on.
    """
    kept = marks = 0
    for tree in trees:
        for node in tree.root.below():
            size = len(node.kept or b"") + len(node.checkpoint or b"")
            assert tier.holds(node) == (size > 0)
            kept += size
            marks += len(node.checkpoint or b"")
    assert tier.used == kept
    assert kept - marks <= tier.limit


def tokens_to(node: Node) -> list[int]:
    """The tokens from the root to the node's end."""
    return [token for run in reversed([above.tokens for above in node.path()]) for token in run]


def prefixes(paths: Iterable[Sequence[int]]) -> set[Path]:
    """Every token of these paths, as the path to it."""
    return {tuple(path[:end]) for path in paths for end in range(1, len(path) + 1)}


def leaves(paths: Iterable[Sequence[int]]) -> set[Path]:
    """The paths that no other one goes on from: each needs a sequence."""
    all_ = {tuple(path) for path in paths if path}
    return {path for path in all_ if not any(o != path and o[: len(path)] == path for o in all_)}


def common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens the two share from the first."""
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))
