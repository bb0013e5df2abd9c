"""Who goes into the next batch.

One arena at a time, in rotation. There every running answer gets its next token, and what room is left goes to those
who wait for a prefill: who is due first goes first, and as many as fit, so that a short one does not wait behind a long
one. While some answer runs, the room is kept so small that it goes on fluently. Keep-hot has its turn when nobody waits.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.rates import FEWEST
from sessiond.daemon.engine.work import Compute, Wish

PATIENCE_S = 2.0
"""How long anybody is expected to wait gladly."""
STRETCH = 4.0
"""How many times as long as its work alone a job may take before it is overdue."""
STEP_S = 0.1
"""How long a batch should take at most while somebody reads an answer: as long as a step of ten tokens a second."""
QUIET_STEP_S = 0.25
"""How long a batch of keep-hot should take at most: who asks meanwhile waits for its end."""
FEWEST_QUIET = 32
"""Tokens of such a batch at least: with fewer, the weights are read for too little."""


class Rank(enum.IntEnum):
    """What a job is for."""

    DECODE = 0
    PREFILL = 1
    KEEP_HOT = 2


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits, as the schedule sees it."""

    id: int
    branch: str
    arena: Arena
    rank: Rank
    due: float
    """By `time.monotonic`, when it should be done."""
    wish: Wish


@dataclass(frozen=True, slots=True)
class Batch:
    """What to compute now."""

    arena: Arena
    wishes: dict[int, Wish]
    """By job, each cut to what fits, the foremost first."""
    standing: list[str]
    """The branches of all jobs over that arena, in the same order."""

    @property
    def seconds(self) -> float:
        """What computing it takes, probably."""
        tokens = sum(len(wish.tokens) for wish in self.wishes.values() if isinstance(wish, Compute))
        return self.arena.rates.seconds(tokens) if tokens else 0.0


def due(arrived: float, deadline: float | None, seconds: float) -> float:
    """When a job of so many seconds' work should be done: fixed when it comes, so that nobody waits for ever behind
    those who come later, and soon for a short one.
    """
    fair = arrived + PATIENCE_S + STRETCH * seconds
    return fair if deadline is None else min(fair, deadline)


def next_batch(waiting: Sequence[Waiting], after: int) -> Batch:
    """The batch of this turn, after one of the arena with the id `after`. `waiting` is not empty."""
    nobody_waits = all(job.rank is Rank.KEEP_HOT for job in waiting)
    hurried = [job for job in waiting if nobody_waits or job.rank is not Rank.KEEP_HOT]
    arena = _next_arena([job.arena for job in hurried], after)
    here = _in_order([job for job in waiting if job.arena is arena], arena.settings.num_batch)
    taking = [job for job in here if job in hurried]
    bulk = arena.settings.num_ubatch
    if any(_is_step(job) for job in waiting):
        bulk = min(bulk, max(FEWEST, int(arena.rates.tokens_a_second * STEP_S)))
    elif nobody_waits:
        bulk = min(bulk, max(FEWEST_QUIET, int(arena.rates.tokens_a_second * QUIET_STEP_S)))
    return Batch(arena, _fill(taking, arena, bulk), [job.branch for job in here])


def _next_arena(arenas: Sequence[Arena], after: int) -> Arena:
    """The one that follows in the order of their ids, which says nothing but stays the same: so all have their turn,
    whoever comes and goes meanwhile.
    """
    by_id = sorted({id(arena): arena for arena in arenas}.items())
    return next((arena for arena_id, arena in by_id if arena_id > after), by_id[0][1])


def _in_order(jobs: Sequence[Waiting], room: int) -> list[Waiting]:
    """The foremost first: the next tokens of answers, then whoever is due first. An answer that computes more than its
    next token waits as a prefill does. Where the answers alone would fill the batch, and so for ever, all go by due.
    """
    steps = sum(_is_step(job) for job in jobs)
    crowded = steps >= room

    def place(job: Waiting) -> tuple[bool, bool, float, int]:
        return job.rank is Rank.KEEP_HOT, not crowded and not _is_step(job), job.due, job.id

    return sorted(jobs, key=place)


def _fill(jobs: Sequence[Waiting], arena: Arena, bulk: int) -> dict[int, Wish]:
    """Wishes that fit the batch, with at most `bulk` tokens beside the steps of answers."""
    room, steps = arena.settings.num_batch, sum(_is_step(job) for job in jobs)
    bulk = max(1, min(bulk, room - steps))
    waiting = sum(len(j.wish.tokens) for j in jobs if isinstance(j.wish, Compute) and not _is_step(j))
    kept = min(bulk, waiting)
    taken: dict[int, Wish] = {}
    for job in jobs:
        if not isinstance(job.wish, Compute):
            taken[job.id] = job.wish
            continue
        steps -= _is_step(job)
        # What a step guesses must not take the place of another one, or of a prefill.
        size = min(len(job.wish.tokens), max(1, room - steps - kept) if _is_step(job) else min(room, bulk))
        if size > 0 and room > 0:
            taken[job.id] = job.wish.cut(size)
            room -= size
            bulk -= 0 if _is_step(job) else size
    return taken


def _is_step(job: Waiting) -> bool:
    """Whether it is one step of a running answer: its next token, and perhaps guesses behind it."""
    wish = job.wish
    return job.rank is Rank.DECODE and isinstance(wish, Compute) and len(wish.tokens) == wish.rows
