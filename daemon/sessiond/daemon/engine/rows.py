"""Where the last decode left logits behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessiond.daemon.engine.tree import Spot


@dataclass(frozen=True, slots=True)
class Tail:
    """Logits after each of the last tokens of a run."""

    run: int
    end: int
    """The position behind the run's last token."""
    rows: int
    """After so many tokens."""

    def back(self, position: int) -> int | None:
        """How many tokens before the run's end the logits are that follow the first `position` tokens of the branch; None
        if there are none.
        """
        back = self.end - position
        return back if 0 <= back < self.rows else None


@dataclass(slots=True)
class Rows:
    """Of one decode: the next one forgets them."""

    runs: int = 0
    """How many runs it had."""
    _runs: dict[Spot, int] = field(default_factory=dict[Spot, int])
    """By the spot after which they are, runs whose last token's logits are there."""
    _tails: dict[str, Tail] = field(default_factory=dict[str, Tail])

    def forget(self) -> None:
        """There are none any more."""
        self.runs = 0
        self._runs.clear()
        self._tails.clear()

    def keep(self, branch: str, tail: Tail, spot: Spot) -> None:
        """The branch stands at `spot` after a run that ended with this."""
        self.runs += 1
        self._tails[branch] = tail
        # Where another branch had computed the same, it may stand short of the run's end.
        if spot[1] == tail.end:
            self._runs[spot] = tail.run

    def run_before(self, spot: Spot) -> int | None:
        """The run whose last token's logits are those after this spot."""
        return self._runs.get(spot)

    def take_tail(self, branch: str) -> Tail | None:
        """What the branch's own run left, if it had one in the last decode. Once: what is left after that is another
        decode's.
        """
        return self._tails.pop(branch, None)
