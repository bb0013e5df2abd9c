"""How the time of a run is shared out between scenarios: by what they cost, and what one leaves goes to the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Budget:
    """So many seconds from `now` on, for work of these costs, which comes in this order."""

    def __init__(self, seconds: float, costs: Sequence[int], now: float) -> None:
        self.end = now + seconds
        self._costs = list(costs)

    def until(self, index: int, now: float) -> float:
        """When the work of this place in the order should be done, if it begins now."""
        left = sum(self._costs[index:])
        share = self._costs[index] / left if left else 1.0
        return now + max(0.0, self.end - now) * share

    def left(self, now: float) -> float:
        """Seconds to the end."""
        return max(0.0, self.end - now)
