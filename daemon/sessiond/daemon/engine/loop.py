"""The loop that schedules all work on one loaded model. It runs in one thread and drives every arena.

Each turn picks one arena and forms one batch: the next token of every running answer there, and one chunk of the
prefill that waits longest. What ranks lower waits for the next turn, which is one micro-batch away.
"""

from __future__ import annotations

import enum
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.work import Compute, Replay, Waited, Wish, Work


class Rank(enum.IntEnum):
    """Who goes first."""

    DECODE = 0
    PREFILL = 1
    KEEP_HOT = 2


class Cancelled(Exception):
    """Thrown into a job that somebody cancelled."""


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
    began: float = 0.0
    """When it was first resumed, by `time.monotonic`."""
    arrived: float = field(default_factory=time.monotonic)


class Loop:
    """Jobs go in from any thread; `turn` runs in one."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._calls: deque[Callable[[], None]] = deque()
        self._jobs: dict[int, Job] = {}
        self._running: tuple[Job, ...] = ()
        self._turns = itertools.count()
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

    def run(self) -> None:
        """Work until `stop`."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._stopped or self._calls or self._jobs)
                if self._stopped:
                    return
            self.turn()

    def turn(self) -> None:
        """Take in what came, resume who waits, compute one batch."""
        for _ in range(len(self._calls)):  # one that is put off is called in the next turn
            self._calls.popleft()()
        for job in list(self._jobs.values()):
            if job.cancelled:
                self._resume(job, Cancelled())
            elif job.wish is None:
                self._resume(job)
        ready = [job for job in self._jobs.values() if job.wish is not None]
        if ready:
            self._compute(self._pick(ready))

    def _pick(self, ready: list[Job]) -> list[Job]:
        """One arena, in rotation; there every answer, and the first of those who wait for a prefill."""
        arenas = list({id(job.arena): job.arena for job in ready}.values())
        arena = arenas[next(self._turns) % len(arenas)]
        here = sorted((job for job in ready if job.arena is arena), key=lambda job: (job.rank, job.id))
        answers = [job for job in here if job.rank is Rank.DECODE]
        prefills = [job for job in here if job.rank is not Rank.DECODE]
        return self._fitting([*answers, *prefills[:1]], arena.settings.num_batch)

    @staticmethod
    def _fitting(jobs: list[Job], room: int) -> list[Job]:
        """As many as one batch holds, at least one."""
        taken: list[Job] = []
        for job in jobs:
            size = len(job.wish.tokens) if isinstance(job.wish, Compute) else 1
            if taken and size > room:
                break
            taken.append(job)
            room -= size
        return taken

    def _compute(self, jobs: list[Job]) -> None:
        arena = jobs[0].arena
        wishing = [(job, job.wish) for job in jobs if isinstance(job.wish, Compute | Replay)]
        idle = [job for job in jobs if isinstance(job.wish, Waited)]
        if wishing and self._enter([job for job, _ in wishing]):
            try:
                outcomes = arena.compute([wish for _, wish in wishing])
            except Exception as error:  # noqa: BLE001 - the backend's fault is its jobs' fault, not the loop's
                outcomes = [error] * len(wishing)
            finally:
                self._leave(arena)
            for (job, _), outcome in zip(wishing, outcomes, strict=True):
                job.wish = None
                if outcome is not None:
                    self._resume(job, outcome)
        for job in idle:
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
