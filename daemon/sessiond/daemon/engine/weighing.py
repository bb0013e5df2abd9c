"""How likely a continuation is after some tokens: its own tokens are computed, with the logits after each of them kept.

A continuation is a job on a branch of its own, so several go into one batch as several answers do. Logits live until the next
decode only. Those that are not there any more are computed again, on the side; what was computed stands in the tree as ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from sessiond.daemon.engine.answer import row_after
from sessiond.daemon.engine.reach import Reach
from sessiond.daemon.engine.rows import Rows, Tail
from sessiond.daemon.engine.work import Compute, Work


def weigh(
    reach: Reach, rows: Rows, branch: str, tokens: Sequence[int], more: Sequence[int]
) -> Work[list[float]]:
    """Bring the branch to `tokens`, which are not none, and say for each token of `more` the natural logarithm of its
    probability after all before it. The branch goes on to the last token but one: what follows the last is not asked.
    """
    start, target = list(tokens), [*tokens, *more[:-1]]
    found: list[float] = []
    if not more:
        return found
    yield from reach.to(branch, start, stops=reach.stops((), len(start)))
    # By itself, though it could go into the run behind it: whoever else weighs something here shares it.
    run = yield from row_after(reach, rows, branch, start)
    found.append(_logprob(reach, run, more[0], 0))
    while len(found) < len(more):
        at = len(start) + len(found) - 1
        yield from reach.to(branch, target[:at])
        rows.take_tail(branch)  # that of another job's tokens, perhaps
        yield _next(reach, branch, at, target)
        tail = rows.take_tail(branch)
        if tail is not None:  # else it had no part in the batch, and wishes again
            found += _read(reach, tail, at + 1, more[len(found) :])
    return found


def _next(reach: Reach, branch: str, at: int, target: Sequence[int]) -> Compute:
    """As many tokens of the target as a batch keeps logits of."""
    context = reach.tree.cells.context
    size = min(context.settings.num_batch, context.more_rows + 1, len(target) - at)
    return Compute(branch, at, target[at : at + size], rows=size)


def _read(reach: Reach, tail: Tail, position: int, more: Sequence[int]) -> list[float]:
    """Of as many of these tokens as there are logits for, the first of them after `position` tokens."""
    found: list[float] = []
    for token in more:
        back = tail.back(position + len(found))
        if back is None:
            break
        found.append(_logprob(reach, tail.run, token, back))
    return found


def _logprob(reach: Reach, run: int, token: int, back: int) -> float:
    # Asked of the tree each time: after the cells were given back it is another context.
    return reach.tree.cells.context.likely(run, token, 0, back).taken[1]
