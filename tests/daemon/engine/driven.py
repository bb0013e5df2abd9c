"""A loop that a test turns by hand."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.loop import Job, Loop
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Work

MOST_TURNS = 2000


class Outcome:
    """What became of a job."""

    def __init__(self) -> None:
        self.over = False
        self.value: Any = None
        self.error: BaseException | None = None

    def done(self, value: Any) -> None:
        assert not self.over, "a job that ends twice"
        self.over, self.value = True, value

    def failed(self, error: BaseException) -> None:
        assert not self.over, "a job that ends twice"
        self.over, self.error = True, error


class Driven:
    """See the module. `after` is called when a turn is over."""

    def __init__(self, loop: Loop, after: Callable[[], None] = lambda: None) -> None:
        self.loop = loop
        self._after = after
        self._ids = itertools.count(1)

    def submit(self, arena: Arena, work: Work[Any], rank: Rank = Rank.PREFILL) -> tuple[int, Outcome]:
        """The job's id, and what will become of it."""
        outcome, job_id = Outcome(), next(self._ids)
        branch = inspect.getgeneratorlocals(work)["branch"]
        job = Job(job_id, branch, arena, rank, work, outcome.done, outcome.failed)
        self.loop.call(lambda: self.loop.submit(job))
        return job_id, outcome

    def turn(self) -> None:
        """One turn."""
        self.loop.turn()
        self._after()

    def until(self, over: Callable[[], bool]) -> None:
        """Turn until something is so."""
        for _ in range(MOST_TURNS):
            if over():
                return
            self.turn()
        raise AssertionError(f"not over after {MOST_TURNS} turns")

    def result(self, arena: Arena, work: Work[Any], rank: Rank = Rank.PREFILL) -> Any:
        """A job's value; raises what it failed of."""
        _, outcome = self.submit(arena, work, rank)
        self.until(lambda: outcome.over)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value
