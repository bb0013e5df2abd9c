"""Guesses at what an answer says next, and how many of them are worth computing. Pure.

How often such guesses are right is seen without computing any: each token that is chosen is compared with what would have
been guessed. So guessing ends where it does not pay, and begins again where it would.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from sessiond.daemon.engine.recall import Recall
from sessiond.daemon.engine.step_cost import StepCost

MOST = 16
"""Tokens that are guessed at once."""
PAYS = 1.05
"""How many times as many tokens a second have to be expected as without guessing."""
_CLASSES = (4, 8, 16)
"""Where the number of agreeing tokens before a guess makes another class of guesses."""
_FIRST = (0.3, 0.6, 0.8, 0.9)
"""What is believed of each class before anything was seen."""
_WEIGHT = 0.1
"""Of the newest guess in what is believed of its class."""


class Guesses:
    """For one answer, which goes on after these tokens; the question names those of the ranges `named`."""

    def __init__(self, tokens: Sequence[int], named: Sequence[tuple[int, int]] = ()) -> None:
        self._recall = Recall(tokens, named)
        self._right = list(_FIRST)

    def heard(self, token: int) -> None:
        """The answer goes on with this."""
        if guess := self._recall.following(1):
            place = _class(self._recall.length)
            self._right[place] += _WEIGHT * ((guess[0] == token) - self._right[place])
        self._recall.add(token)

    def next(self, most: int, cost: StepCost, others: int) -> list[int]:
        """What probably comes next: as many tokens as are worth a place in the next batch, in which `others` have one token
        each; at most `most`.
        """
        guess = self._recall.following(min(most, MOST))
        return guess[: worth([self.chance(index) for index in range(len(guess))], cost, others)]

    def chance(self, index: int) -> float:
        """How likely the guess of this index is right if those before it are."""
        return self._right[_class(self._recall.length + index)]


def worth(chances: Sequence[float], cost: StepCost, others: int) -> int:
    """How many guesses to compute, given how likely each is right if those before it are."""
    best, found = PAYS * (others + 1) / cost.seconds(others + 1), 0
    expected, all_right = float(others + 1), 1.0
    for count, chance in enumerate(chances, 1):
        all_right *= chance
        expected += all_right
        speed = expected / cost.seconds(others + 1 + count)
        if speed > best:
            best, found = speed, count
    return found


def _class(length: int) -> int:
    return bisect_right(_CLASSES, length)
