"""How well an order foresees what is edited next: taken at one commit of a history, judged by the edits after it. Pure.

Each hunk of a commit is one save. What it costs is half of its file and all that stands behind it, in bytes: no model is
needed, and all of the history's files stand in the prefix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from replay_hunks import changes, stages
from sessiond.daemon.workspace.commits import HALF_LIFE, MAX_CHANGES
from sessiond.daemon.workspace.edits import Edits
from sessiond.daemon.workspace.order import BY_PATH, Order

Version: TypeAlias = Mapping[str, bytes]
"""Contents by path, at one commit."""
Rule: TypeAlias = Callable[[Mapping[str, int], Mapping[str, float]], Order]
"""An order from the sizes of files and from what their edits count."""


def by_own_figure(sizes: Mapping[str, int], weights: Mapping[str, float]) -> Order:
    """Edits per byte as they were counted: a file without edits is the calmest there is, however small."""
    return Order({path: weights.get(path, 0.0) / max(1, size) for path, size in sizes.items()})


RULES: dict[str, Rule] = {
    "path": lambda _sizes, _weights: BY_PATH,
    "edits per byte": by_own_figure,
    "daemon": Order.of,
}
"""All that are compared. "daemon" is what it does."""


def ratios(versions: Sequence[Version], split: int) -> dict[str, float]:
    """What a save behind the version of this index costs under each rule, of what it costs in the order of paths."""
    sizes = {path: len(content) for path, content in versions[split].items()}
    weights = counted(versions[: split + 1])
    costs = {name: _cost(rule(sizes, weights), versions[split:]) for name, rule in RULES.items()}
    return {name: cost / costs["path"] if costs["path"] else 0.0 for name, cost in costs.items()}


def while_writing(versions: Sequence[Version], at: int, horizon: int) -> tuple[float, float]:
    """What a save costs where an order is taken while the commit behind the version `at` is half written, of what it costs
    in the order of paths: with the commits alone, and with what no commit holds yet, as the daemon does. Judged by the
    saves of so many commits.
    """
    tree = half_written(versions[at], versions[at + 1])
    judged = [tree, *versions[at + 1 : at + 1 + horizon]]
    sizes = {path: len(content) for path, content in tree.items()}
    weights = counted(versions[: at + 1])
    edits = Edits(weights, {path: len(content) for path, content in versions[at].items()})
    by_path = _cost(BY_PATH, judged)
    orders = Order.of(sizes, weights), Order.of(sizes, edits.counted(sizes))
    without, with_it = (_cost(order, judged) / by_path if by_path else 0.0 for order in orders)
    return without, with_it


def half_written(before: Version, after: Version) -> Version:
    """The first half of the files that a commit changes, each half-way."""
    tree = dict(before)
    touched = list(changes(before, after).items())
    for path, content in touched[: (len(touched) + 1) // 2]:
        if content is None:
            del tree[path]
        elif path in before:
            steps = [step for step in stages(before[path], content) if step is not None]
            tree[path] = steps[(len(steps) - 1) // 2]
        else:
            tree[path] = content[: max(1, len(content) // 2)]
    return tree


def counted(versions: Sequence[Version]) -> dict[str, float]:
    """What each path's edits count at the last version, as the daemon counts those of commits."""
    found: dict[str, float] = {}
    for index in range(1, len(versions)):
        touched = changes(versions[index - 1], versions[index])
        age = len(versions) - 1 - index
        if len(touched) <= MAX_CHANGES:
            for path in (path for path, content in touched.items() if content is not None):
                found[path] = found.get(path, 0.0) + math.exp2(-age / HALF_LIFE)
    return found


def _cost(order: Order, versions: Sequence[Version]) -> float:
    """Bytes that are computed again from the first version to the last, all saves together."""
    total = 0.0
    for before, after in pairwise(versions):
        standing = order.calmest_first(before.keys() | after.keys())
        sizes = [len(after.get(path, before.get(path, b""))) for path in standing]
        behind = dict(zip(standing, _behind(sizes), strict=True))
        for path, content in changes(before, after).items():
            saves = len(stages(before.get(path), content))
            total += saves * (behind[path] + len(content or b"") / 2)
    return total


def _behind(sizes: Sequence[int]) -> list[int]:
    """Bytes behind each file."""
    left, found = sum(sizes), list[int]()
    for size in sizes:
        left -= size
        found.append(left)
    return found
