"""Which files go in first, in which order they stand, and what an edit costs there.

Everything behind an edited segment is computed again. What is edited often per byte therefore stands at the end: with
independent edits that order has the lowest expected cost (it is Smith's rule for jobs by weight and length). The same
files are what people ask about, so where not all fit they are the first to go in.

An order is taken once and then stays, whatever is edited: files that grew must not change places under somebody who
waits. What came since stands last, where it moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

README = "README.md"
"""At the root. Among files that are edited equally often it stands first."""
HORIZON = 100
"""Edits over which a new order has to save more than it costs to compute the prefix in it, once."""


@dataclass(frozen=True, slots=True)
class Order:
    """How often each file of a workspace is edited, for its size. The same for all models: sessions share it."""

    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """Expected edits per byte, by path, in any unit that is the same for all."""
    rate_of_new: float = 0.0
    """Of a file that is not among these: a new one is edited again soon."""

    @classmethod
    def of(cls, sizes: Mapping[str, int], weights: Mapping[str, float]) -> Order:
        """The order of these files by their sizes in bytes and by their edits so far, as `weights` count them.

        A weight that is no positive number counts nothing. A file's own figure says little, the less the smaller it is:
        each is taken together with one average file of the workspace. (That is the mean of a gamma-Poisson model of
        edits per byte, whose prior is worth as much as one file.)
        """
        if not sizes:
            return cls()
        edits = {path: _usable(weights.get(path, 0.0)) for path in sizes}
        mean_edits = math.fsum(edits.values()) / len(sizes)
        mean_size = max(1.0, math.fsum(sizes.values()) / len(sizes))
        rates = {path: (edits[path] + mean_edits) / (size + mean_size) for path, size in sizes.items()}
        return cls(rates, max(rates.values()))

    def hottest_first(self, paths: Iterable[str]) -> list[str]:
        """The order in which files are offered room: most edits per byte first, what is new before all, then by path."""
        return sorted(paths, key=lambda path: (-self._rate(path), path.encode()))

    def calmest_first(self, paths: Iterable[str]) -> list[str]:
        """The order in which files stand in the prompt: the reverse, and of equals the README first, then by path."""
        return sorted(paths, key=lambda path: (self._rate(path), path != README, path.encode()))

    def weight(self, path: str, size: int) -> float:
        """Expected edits of a file of `size` bytes; one that is new counts as the hottest that is not."""
        return self.rates.get(path, self.rate_of_new) * size

    def is_worth_it(self, instead_of: Order, sizes: Mapping[str, int]) -> bool:
        """Whether to give up another order for this one, where files of these sizes stand in the prompt."""
        before, after = instead_of.calmest_first(sizes), self.calmest_first(sizes)
        same = next(
            (index for index, pair in enumerate(zip(before, after, strict=True)) if len({*pair}) > 1), None
        )
        if same is None:
            return False
        price = sum(sizes[path] for path in after[same:])
        return (self._cost(before, sizes) - self._cost(after, sizes)) * HORIZON > price

    def _cost(self, paths: Sequence[str], sizes: Mapping[str, int]) -> float:
        return expected_cost(
            [sizes[path] for path in paths], [self.weight(path, sizes[path]) for path in paths]
        )

    def _rate(self, path: str) -> float:
        return self.rates.get(path, math.inf)


BY_PATH = Order()
"""No file is known: all of them stand in the order of their paths."""


def edit_costs(tokens: Sequence[int]) -> list[float]:
    """Tokens that an edit in the middle of each segment makes the daemon compute again: half of it, all behind it."""
    through = accumulate(tokens)
    total = sum(tokens)
    return [total - end + count / 2 for count, end in zip(tokens, through, strict=True)]


def expected_cost(tokens: Sequence[int], weights: Sequence[float]) -> float:
    """Tokens that one edit costs on average, if segments are edited as often as their weights say.

    0 if none has a weight. Comparing it for two orders says what the better one saves.
    """
    usable = [_usable(weight) for weight in weights]
    total = math.fsum(usable)
    if total <= 0:
        return 0.0
    costs = edit_costs(tokens)
    return math.fsum(weight * cost for weight, cost in zip(usable, costs, strict=True)) / total


def _usable(weight: float) -> float:
    return weight if math.isfinite(weight) and weight > 0 else 0.0
