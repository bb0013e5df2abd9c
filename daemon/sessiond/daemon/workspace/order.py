"""Which files go in first, in which order they stand, and what an edit costs there.

Everything behind an edited segment is computed again. What is edited often per token therefore stands at the end:
with independent edits that order has the lowest expected cost (it is Smith's rule for jobs by weight and length).
The same files are what people ask about, so where not all fit they are the first to go in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

BYTES_PER_TOKEN = 4
"""Close enough for an order, which must not depend on the model: sessions with different models share it."""
README = "README.md"
"""At the root. Among files that are edited equally often it stands first."""


def edits_per_token(weight: float, size: int) -> float:
    """Expected edits of a file of `size` bytes, per token; 0 for a weight that is no positive number."""
    if not (math.isfinite(weight) and weight > 0):
        return 0.0
    return weight / max(1.0, size / BYTES_PER_TOKEN)


def hottest_first(paths: Iterable[str], sizes: Mapping[str, int], weights: Mapping[str, float]) -> list[str]:
    """The order in which files are offered room: most edits per token first, then by path.

    `sizes` are in bytes; only a path with a weight needs one.
    """
    return sorted(paths, key=lambda path: (-_heat(path, sizes, weights), path.encode()))


def calmest_first(paths: Iterable[str], sizes: Mapping[str, int], weights: Mapping[str, float]) -> list[str]:
    """The order in which files stand in the prompt: fewest edits per token first, then the README, then by path.

    `sizes` are in bytes; only a path with a weight needs one.
    """
    return sorted(paths, key=lambda path: (_heat(path, sizes, weights), path != README, path.encode()))


def _heat(path: str, sizes: Mapping[str, int], weights: Mapping[str, float]) -> float:
    return edits_per_token(weights.get(path, 0.0), sizes.get(path, 0))


def edit_costs(tokens: Sequence[int]) -> list[float]:
    """Tokens that an edit in the middle of each segment makes the daemon compute again: half of it, all behind it."""
    through = accumulate(tokens)
    total = sum(tokens)
    return [total - end + count / 2 for count, end in zip(tokens, through, strict=True)]


def expected_cost(tokens: Sequence[int], weights: Sequence[float]) -> float:
    """Tokens that one edit costs on average, if segments are edited as often as their weights say.

    0 if none has a weight. Comparing it for two orders says what the better one saves.
    """
    usable = [weight if math.isfinite(weight) and weight > 0 else 0.0 for weight in weights]
    total = math.fsum(usable)
    if total <= 0:
        return 0.0
    costs = edit_costs(tokens)
    return math.fsum(weight * cost for weight, cost in zip(usable, costs, strict=True)) / total
