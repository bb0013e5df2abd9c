"""An answer, token by token: chosen by the logits after what stands, told, computed; and guessed ahead where that pays.

A guess is computed in one batch with the token before it, and then checked: it stays only if it is what is chosen there. The
sampler draws once for each token that is told, guessed or not. So the answer is the one that it would have been, up to what
the shape of a batch changes in the rounding of logits: nothing in a deterministic context. In others the likeliest token is
taken from such a batch only where rounding could not have made another one the likeliest. Else the token before it is computed
once more, by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import BackendError, Held, NoRoom, Sampler, Sampling
from sessiond.daemon.engine.arena import Emit, Guessing, Scored, unheard
from sessiond.daemon.engine.beginnings import Beginnings
from sessiond.daemon.engine.guesses import Guesses
from sessiond.daemon.engine.reach import Reach
from sessiond.daemon.engine.rows import Rows, Tail
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
    beginnings: Beginnings
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
    start: int = field(init=False)
    """How many tokens stand before it."""
    _alone: bool = False
    """Whether the last token has to be computed by itself: with guesses behind it, it told nothing."""

    def __post_init__(self) -> None:
        self.left, self.start = self.wanted.max_tokens, len(self.target)

    def said(self) -> Work[Finish]:
        """All of it. The last token is computed too, so that all of it is resident."""
        finish = None if self.left else self._at_limit()
        if self.wanted.guessing is not None and self.left > 1:
            self.guesses = Guesses(self.target, self.wanted.guessing.named)
        while finish is None:
            run = yield from self._row()
            spot = self.reach.tree.spot(self.branch)
            finish = self._choose(run)
            self._alone = False
            while finish is None and not self._alone and (guess := self._guess()):
                finish = yield from self._check(guess)
                spot = self.reach.tree.spot(self.branch)
            yield from self.reach.to(self.branch, self.target, since=spot)
        return Finish(finish.reason, finish.stop_string, self.drafted, self.accepted)

    def _row(self) -> Work[int | Held]:
        """The logits by which the next token is chosen. Nothing is computed for the first one where somebody has had an answer after
        the same tokens.
        """
        is_first = len(self.target) == self.start
        if is_first and self.rows.run_before(self.reach.tree.spot(self.branch)) is None:
            found = self.beginnings.find(self.target)
            if found is not None:
                return found
        run = yield from row_after(self.reach, self.rows, self.branch, self.target)
        if is_first:
            self.beginnings.keep(self.target, self.reach.tree.cells.context.logits(run))
        return run

    def _choose(self, run: int | Held, back: int = 0) -> Finish | None:
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
            self.guesses.heard(token, lambda: self._in_doubt(run, back))
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
        return self.guesses.next(self.left - 1, self.cost, max(0, self.rows.runs - 1))

    def _check(self, guess: Sequence[int]) -> Work[Finish | None]:
        """Compute the last token and guesses behind it in one batch, and choose as many tokens as these were right, and one
        more. How the answer ends, if it does.
        """
        at, tree, came_to = len(self.target) - 1, self.reach.tree, None
        self._alone = True  # unless that batch tells what comes next
        if tree.length(self.branch) != at:
            return None  # the last token stands already: somebody has said the same before
        self.rows.take_tail(self.branch)
        try:
            yield Compute(self.branch, at, [self.target[at], *guess], rows=1 + len(guess))
            tail, came_to = self.rows.take_tail(self.branch), tree.spot(self.branch)
            if tail is None or tail.back(at + 1) is None:
                return None  # somebody else computes the same
            finish = yield from self._take(tail, guess)
            self._alone = False
            return finish
        except NoRoom:
            self.guesses = None  # what is told next may have room where guesses have not
            return None
        finally:
            if tree is self.reach.tree:  # else all of it is gone
                tree.shorten(self.branch, self.target[: len(self.target) - self._alone], came_to)

    def _take(self, tail: Tail, guess: Sequence[int]) -> Work[Finish | None]:
        """Choose tokens by these logits as long as they are what was guessed. How the answer ends, if it does."""
        guess = guess[: tail.rows - 1]
        self.drafted += len(guess)
        run: int | Held = tail.run
        for back, expected in zip(reversed(range(tail.rows)), [*guess, None], strict=True):
            before = len(self.target)
            if self._in_doubt(run, back):
                run = self._held(run, back)
                finish = self._choose((yield from self._by_itself()))
            else:
                finish = self._choose(run, back)
            is_right = self.target[before:] == [expected]
            self.accepted += is_right
            if finish is not None or not is_right:
                return finish
        return None

    def _in_doubt(self, run: int | Held, back: int) -> bool:
        """Whether the likeliest token might be another one had these logits been computed by themselves. What is drawn is left to
        chance in any case.
        """
        if self.wanted.sampling.temperature > 0:
            return False
        context = self.reach.tree.cells.context
        return context.rounding > 0 and context.lead(run, back) <= context.rounding

    def _held(self, run: int | Held, rows: int) -> Held:
        """The logits after each of the last so many tokens of a run, for after the next decode."""
        if isinstance(run, Held):
            return run
        context = self.reach.tree.cells.context
        return Held(tuple(context.logits(run, back) for back in range(rows)))

    def _by_itself(self) -> Work[int]:
        """Go back to the last token and compute it once more, with nothing behind it: the run whose logits are those after it."""
        yield from self.reach.to(self.branch, self.target)
        yield from _again(self.reach, self.branch, self.target)
        return (yield from row_after(self.reach, self.rows, self.branch, self.target))


def row_after(reach: Reach, rows: Rows, branch: str, target: list[int]) -> Work[int]:
    """The run whose logits are those after the branch's tip, which stands at `target`. Where there are none that are fresh,
    the last token is computed again, on the side: then, and only then.
    """
    if not target:
        raise BackendError("an empty branch has no last token")
    while (run := rows.run_before(reach.tree.spot(branch))) is None:
        yield from _again(reach, branch, target)
    return run


def _again(reach: Reach, branch: str, target: list[int]) -> Work[None]:
    """Compute the last token again, on the side."""
    at = reach.tree.retreat(branch)
    yield Compute(branch, at, target[at:])
    yield from reach.to(branch, target)
