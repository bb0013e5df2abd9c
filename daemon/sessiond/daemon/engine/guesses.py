"""Guesses at what an answer says next, and how many of them are worth computing. Pure.

How often such guesses are right is seen without computing any: each token that is chosen is compared with what would have
been guessed. So guessing ends where it does not pay, and begins again where it would.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from sessiond.daemon.engine.recall import Recall
from sessiond.daemon.engine.step_cost import StepCost

MOST = 32
"""Tokens that are guessed at once."""
PAYS = 1.05
"""How many times as many tokens a second have to be expected as without guessing."""
_CLASSES = (4, 8, 16)
"""Where the number of agreeing tokens before a guess makes another class of guesses."""
_FIRST = (0.3, 0.6, 0.9, 0.97)
"""What is believed of each class before anything was seen: less than edits of this project's files show, and more than prose."""
_WEIGHT = 0.1
"""Of the newest guess in what is believed of its class."""
_HOPELESS = 0.01
"""Of all guesses so far to be right, where no further one can pay."""
_DOUBTFUL = 0.02
"""What is believed of how many right guesses are in doubt, before anything was seen."""


class Guesses:
    """For one answer, which goes on after these tokens; the question names those of the ranges `named`."""

    def __init__(self, tokens: Sequence[int], named: Sequence[tuple[int, int]] = ()) -> None:
        self._recall = Recall(tokens, named)
        self._right = list(_FIRST)
        self._doubtful = _DOUBTFUL

    def heard(self, token: int, in_doubt: Callable[[], bool] = lambda: False) -> None:
        """The answer goes on with this. Whether it would have been computed once more, had it been guessed, is asked only if the
        guess was right.
        """
        if guess := self._recall.following(1):
            place, is_right = _class(self._recall.length), guess[0] == token
            self._right[place] += _WEIGHT * (is_right - self._right[place])
            if is_right:
                self._doubtful += _WEIGHT * (in_doubt() - self._doubtful)
        self._recall.add(token)

    def next(self, most: int, cost: StepCost, others: int) -> list[int]:
        """What probably comes next: as many tokens as are worth a place in the next batch, in which `others` have one token
        each; at most `most`.
        """
        guess = self._recall.following(min(most, MOST))
        chances = (self.chance(index) for index in range(len(guess)))
        return guess[: worth(chances, cost, others, self._doubtful)]

    def chance(self, index: int) -> float:
        """How likely the guess of this index is right if those before it are."""
        return self._right[_class(self._recall.length + index)]


def worth(chances: Iterable[float], cost: StepCost, others: int, doubtful: float = 0.0) -> int:
    """How many guesses to compute, given how likely each is right if those before it are, and what share of the right ones
    are `doubtful`: each of these takes a step of its own.
    """
    step = cost.seconds(others + 1)
    best, found = PAYS * (others + 1) / step, 0
    expected, right, all_right = float(others + 1), 1.0, 1.0
    for count, chance in enumerate(chances, 1):
        all_right *= chance
        if all_right < _HOPELESS:
            break
        expected += all_right
        right += all_right
        speed = expected / (cost.seconds(others + 1 + count) + doubtful * right * step)
        if speed > best:
            best, found = speed, count
    return found


def _class(length: int) -> int:
    return bisect_right(_CLASSES, length)
