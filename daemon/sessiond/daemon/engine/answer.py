"""An answer, token by token: chosen by the logits after what stands, told, computed; and guessed ahead where that pays.

A guess is computed in one batch with the token before it, and then checked: it stays only if it is what is chosen there. The
sampler draws once for each token that is told, guessed or not. So the answer is the one that it would have been, up to what
the shape of a batch changes in the rounding of logits: nothing in a deterministic context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import BackendError, NoRoom, Sampler, Sampling
from sessiond.daemon.engine.arena import Emit, Guessing, Scored, unheard
from sessiond.daemon.engine.guesses import Guesses
from sessiond.daemon.engine.reach import Reach
from sessiond.daemon.engine.rows import Rows
from sessiond.daemon.engine.step_cost import StepCost
from sessiond.daemon.engine.work import Compute, Finish, Work


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer is to be like, and who hears of it."""

    sampling: Sampling
    max_tokens: int
    emit: Emit
    scored: Scored = unheard
    guessing: Guessing | None = None
    """None if nothing is to be guessed ahead."""


@dataclass(slots=True)
class Answer:
    """One that goes on behind `target`, which it extends. The branch stands there."""

    reach: Reach
    rows: Rows
    cost: StepCost
    end_tokens: frozenset[int]
    branch: str
    target: list[int]
    wanted: Wanted
    sampler: Sampler
    guesses: Guesses | None = None
    drafted: int = 0
    """Tokens that were guessed and computed."""
    accepted: int = 0
    """Of these, how many were right."""
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.wanted.max_tokens

    def said(self) -> Work[Finish]:
        """All of it. The last token is computed too, so that all of it is resident."""
        finish = None if self.left else self._at_limit()
        if self.wanted.guessing is not None and self.left > 1:
            self.guesses = Guesses(self.target, self.wanted.guessing.named)
        while finish is None:
            run = yield from row_after(self.reach, self.rows, self.branch, self.target)
            spot = self.reach.tree.spot(self.branch)
            finish = self._choose(run)
            while finish is None and (guess := self._guess()):
                before = len(self.target)
                finish = yield from self._check(guess)
                spot = self.reach.tree.spot(self.branch)
                if len(self.target) == before:
                    break  # somebody else computes the same or has computed it, or has taken the room
            yield from self.reach.to(self.branch, self.target, since=spot)
        return Finish(finish.reason, finish.stop_string, self.drafted, self.accepted)

    def _choose(self, run: int, back: int = 0) -> Finish | None:
        """Choose the next token by those logits, and tell it. How the answer ends with it, if it does."""
        if self.sampler.ended:
            return Finish("stop")
        context = self.reach.tree.cells.context  # another one after the cells were given back
        token = context.sample(run, self.sampler, back)
        if token in self.end_tokens:
            return Finish("stop")
        if self.wanted.sampling.logprobs:
            self.wanted.scored(context.likely(run, token, self.wanted.sampling.logprobs, back))
        finish = self.wanted.emit(token)
        self.target.append(token)
        self.left -= 1
        if self.guesses is not None:
            self.guesses.heard(token)
        if finish is None and not self.left:
            finish = self._at_limit()
        return finish

    def _at_limit(self) -> Finish:
        """No more may be said; a grammar may have come to its end with the very last token."""
        return Finish("stop" if self.sampler.ended else "length")

    def _guess(self) -> list[int]:
        """What is likely to follow the last token, which is not computed yet; none where that would not pay."""
        if self.guesses is None or self.sampler.ended:
            return []
        return self.guesses.next(self.left - 1, self.cost, self.rows.runs - 1)

    def _check(self, guess: Sequence[int]) -> Work[Finish | None]:
        """Compute the last token and guesses behind it in one batch, and choose as many tokens as these were right, and one
        more. How the answer ends, if it does.
        """
        at = len(self.target) - 1
        if self.reach.tree.length(self.branch) != at:
            return None  # the last token stands already: somebody has said the same before
        self.rows.take_tail(self.branch)
        try:
            yield Compute(self.branch, at, [self.target[at], *guess], rows=1 + len(guess))
            tail = self.rows.take_tail(self.branch)
            if tail is None or tail.back(at + 1) is None:
                return None
            computed = guess[: tail.rows - 1]
            self.drafted += len(computed)
            for back, expected in zip(reversed(range(tail.rows)), [*computed, None], strict=True):
                before = len(self.target)
                finish = self._choose(tail.run, back)
                is_right = self.target[before:] == [expected]
                self.accepted += is_right
                if finish is not None or not is_right:
                    return finish
            return None
        except NoRoom:
            self.guesses = None  # what is told next may have room where guesses have not
            return None
        finally:
            self.reach.tree.shorten(self.branch, self.target)


def row_after(reach: Reach, rows: Rows, branch: str, target: list[int]) -> Work[int]:
    """The run whose logits are those after the branch's tip, which stands at `target`. Where there are none that are fresh,
    the last token is computed again, on the side: then, and only then.
    """
    if not target:
        raise BackendError("an empty branch has no last token")
    while (run := rows.run_before(reach.tree.spot(branch))) is None:
        at = reach.tree.retreat(branch)
        yield Compute(branch, at, target[at:])
        yield from reach.to(branch, target)
    return run
