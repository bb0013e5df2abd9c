"""The loop that schedules all work on one loaded model. It runs in one thread and drives every arena.

Each turn computes one batch, which `schedule` chooses. What ranks lower waits for the next turn, which is one
micro-batch away.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.schedule import Batch, Rank, Waiting, next_batch
from sessiond.daemon.engine.work import Adopt, Batchable, Compute, Fetch, Receive, Restore, Waited, Wish, Work


class Cancelled(Exception):
    """Thrown into a job that somebody cancelled."""


LONG_S = 0.25
"""A batch that takes longer is told of before: so much later nobody sees how far a job is."""
IDLE_S = 0.25
"""Without anything to do for so long, the loop is idle."""


@dataclass(eq=False, slots=True)
class Job:
    """One piece of work over one arena. `done` and `failed` are called from the loop's thread, one of them once."""

    id: int
    branch: str
    arena: Arena
    rank: Rank
    work: Work[Any]
    done: Callable[[Any], None]
    failed: Callable[[BaseException], None]
    wish: Wish | None = None
    cancelled: bool = False
    due: float = field(default_factory=time.monotonic)
    """When it should be done, by `time.monotonic`; see `schedule.due`."""
    began: float = 0.0
    """When it was first resumed."""

    @property
    def waits(self) -> bool:
        """Whether it waits for the disk."""
        return isinstance(self.wish, Fetch) and self.wish.waits


class Loop:
    """Jobs go in from any thread; `turn` runs in one."""

    def __init__(
        self,
        after_turn: Callable[[], None] = lambda: None,
        on_idle: Callable[[], float | None] = lambda: None,
        say: Callable[[bool], None] = lambda _all: None,
        before_computing: Callable[[Arena], None] = lambda _arena: None,
    ) -> None:
        self._after_turn = after_turn
        self._say = say
        """Called when all jobs have said what the last batch made them say, and with whether to tell all of it now: what may wait
        for more would wait long.
        """
        self._before_computing = before_computing
        """Called before each batch in which tokens are computed, with whose it is."""
        self._on_idle = on_idle
        """Called when there is nothing to do; answers after how many seconds to call again, if that goes on."""
        self._lock = threading.Condition()
        self._calls: deque[Callable[[], None]] = deque()
        self._jobs: dict[int, Job] = {}
        self._running: tuple[Job, ...] = ()
        self._served = 0
        """The id of the arena of the last batch."""
        self._stopped = False

    # From any thread.

    def call(self, act: Callable[[], None]) -> None:
        """Run a short act in the loop's thread, before its next turn."""
        with self._lock:
            self._calls.append(act)
            self._lock.notify()

    def cancel(self, job_id: int) -> None:
        """End a job soon, also inside a decode. One that is over is left alone."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                self._calls.append(
                    lambda: self._cancel_late(job_id)
                )  # its submit may still wait among the calls
            else:
                job.cancelled = True
                if job in self._running:
                    job.arena.abort()
            self._lock.notify()

    def stop(self) -> None:
        """End `run` after the turn in progress, which is aborted."""
        with self._lock:
            self._stopped = True
            for job in self._running:
                job.arena.abort()
            self._lock.notify()

    def census(self) -> tuple[int, Counter[Rank]]:
        """How many jobs and calls are in no batch now, and how many jobs there are of each rank."""
        with self._lock:
            jobs = list(self._jobs.values())
            waiting = len(self._calls) + sum(job not in self._running for job in jobs)
        return waiting, Counter(job.rank for job in jobs)

    # In the loop's thread.

    def submit(self, job: Job) -> None:
        """Take a job in. Only from within `call`."""
        with self._lock:
            self._jobs[job.id] = job

    def _cancel_late(self, job_id: int) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            job.cancelled = True

    def jobs_on(self, branch: str) -> list[int]:
        """The jobs of a branch that are not over. In the loop's thread."""
        return [job.id for job in self._jobs.values() if job.branch == branch]

    def busy_branches(self) -> set[str]:
        """The branches that have a job. In the loop's thread."""
        return {job.branch for job in self._jobs.values()}

    def run(self) -> None:
        """Work until `stop`."""
        pause: float | None = None
        while True:
            with self._lock:
                self._lock.wait_for(self._may_go_on, pause)
                busy = self._may_go_on() or bool(self._jobs)
                if self._stopped:
                    return
            if busy:
                self.turn()
                self._after_turn()
                pause = self._patience() if self._jobs else IDLE_S
                if not self._may_go_on():
                    self._say(True)
            else:
                pause = self._on_idle()

    def _may_go_on(self) -> bool:
        return (
            self._stopped or bool(self._calls) or any(not j.waits or j.cancelled for j in self._jobs.values())
        )

    def _patience(self) -> float:
        """Seconds until a job gives up that waits for the disk."""
        until = [job.wish.until for job in self._jobs.values() if isinstance(job.wish, Fetch)]
        return max(0.0, min(until, default=0.0) - time.monotonic())

    def turn(self) -> None:
        """Take in what came, resume who waits, compute one batch."""
        if self._calls:
            self._say(True)  # some take long: a new context, a text to embed
        for _ in range(len(self._calls)):  # one that is put off is called in the next turn
            self._calls.popleft()()
        for job in list(self._jobs.values()):
            if job.cancelled:
                self._resume(job, Cancelled())
            elif job.wish is None or (isinstance(job.wish, Fetch) and not job.wish.waits):
                self._resume(job)
        waiting = [
            Waiting(job.id, job.branch, job.arena, job.rank, job.due, job.wish)
            for job in self._jobs.values()
            if job.wish is not None and not isinstance(job.wish, Fetch)
        ]
        batch = next_batch(waiting, self._served) if waiting else None
        self._say(batch is not None and batch.seconds > LONG_S)
        if batch is not None:
            self._served = id(batch.arena)
            self._compute(batch)

    def _compute(self, batch: Batch) -> None:
        jobs = [self._jobs[job_id] for job_id in batch.wishes]
        wishing = [
            (job, wish)
            for job, wish in zip(jobs, batch.wishes.values(), strict=True)
            if isinstance(wish, Batchable)
        ]
        if wishing and self._enter([job for job, _ in wishing]):
            try:
                # Of all that they have to compute: what goes in this batch alone may be little, while others answer.
                tokens = sum(len(job.wish.tokens) for job in jobs if isinstance(job.wish, Compute))
                returns = any(isinstance(wish, Restore | Receive | Adopt) for _, wish in wishing)
                batch.arena.make_way(tokens, batch.standing, returns=returns)
                if tokens:
                    self._before_computing(batch.arena)
                outcomes = batch.arena.compute([wish for _, wish in wishing], batch.standing)
            except Exception as error:  # noqa: BLE001 - the backend's fault is its jobs' fault, not the loop's
                outcomes = [error] * len(wishing)
            finally:
                self._leave(batch.arena)
            self._plan_anew(batch.arena)
            for (job, _), outcome in zip(wishing, outcomes, strict=True):
                if outcome is not None:
                    self._resume(job, outcome)
        for job in jobs:
            if isinstance(job.wish, Waited):
                job.wish = None

    def _plan_anew(self, arena: Arena) -> None:
        """What was computed may be what others wait for, also those that had no part in the batch."""
        for job in self._jobs.values():
            if job.arena is arena and not isinstance(job.wish, Waited | Fetch):
                job.wish = None

    def _enter(self, jobs: list[Job]) -> bool:
        """Note who is about to run, so that `cancel` knows whom to abort; no if one was cancelled just now."""
        with self._lock:
            if self._stopped or any(job.cancelled for job in jobs):
                return False
            self._running = tuple(jobs)
            return True

    def _leave(self, arena: Arena) -> None:
        with self._lock:
            self._running = ()
            arena.clear_abort()

    def _resume(self, job: Job, error: BaseException | None = None) -> None:
        """Let a job think until its next wish, or its end."""
        job.began = job.began or time.monotonic()
        self._enter([job])  # a prompt backend computes inside its job
        try:
            job.wish = job.work.throw(error) if error is not None else next(job.work)
        except StopIteration as end:
            self._forget(job)
            job.done(end.value)
        except Exception as failure:  # noqa: BLE001 - whatever a job dies of is told to whoever asked
            self._forget(job)
            job.failed(failure)
        finally:
            self._leave(job.arena)

    def _forget(self, job: Job) -> None:
        with self._lock:
            del self._jobs[job.id]
