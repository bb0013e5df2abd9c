"""Turns that run side by side for the blocking client: each worker is a thread with a session, and the caller waits on a
queue, where a signal can always interrupt it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from sessiond.client import threads
from sessiond.client.sync.session import Session
from sessiond.client.sync.stream import Stream

Job = TypeVar("Job")
Part = TypeVar("Part")
Result = TypeVar("Result")


class Stopped(Exception):
    """Nobody waits for the result any more."""


class Crew(Generic[Job, Part, Result]):
    """`begin` starts the stream of a job on a session; `heard` takes in its next part, and says whether the next job may
    begin; `ended` is the result once the stream is at its end.
    """

    def __init__(
        self,
        begin: Callable[[Session, Job], Stream[Part]],
        heard: Callable[[Job, Part], bool],
        ended: Callable[[Session, Job], Result],
    ) -> None:
        self._begin = begin
        self._heard = heard
        self._ended = ended
        self._running: set[Stream[Part]] = set()
        self._is_stopped = False
        self._results: SimpleQueue[Result | Exception] = SimpleQueue()

    def work(self, crew: Sequence[Session], jobs: Sequence[Job]) -> Generator[Result, None, None]:
        """The results as they come. Jobs begin in their order, each when the one before it lets it. Raises what the first one
        failed of, and ends the others then; so it does when it is closed.
        """
        gates: list[SimpleQueue[bool]] = [SimpleQueue() for _ in range(len(jobs) + 1)]
        left: SimpleQueue[tuple[Job, SimpleQueue[bool], SimpleQueue[bool]]] = SimpleQueue()
        for job, before, after in zip(jobs, gates, gates[1:], strict=False):
            left.put((job, before, after))
        try:
            gates[0].put(True)
            for session in crew:
                threads.start(partial(self._work, session, left))
            for _ in jobs:
                yield threads.given(threads.wait_for(self._results))
        finally:
            self._is_stopped = True
            for stream in list(self._running):
                stream.close()
            for gate in gates:
                gate.put(False)

    def _work(
        self, session: Session, left: SimpleQueue[tuple[Job, SimpleQueue[bool], SimpleQueue[bool]]]
    ) -> None:
        while not self._is_stopped:
            try:
                job, before, after = left.get_nowait()
            except Empty:
                return
            threads.wait_for(before)
            self._results.put(threads.outcome_of(partial(self._one, session, job, after)))
            after.put(True)

    def _one(self, session: Session, job: Job, after: SimpleQueue[bool]) -> Result:
        with self._begin(session, job) as parts:
            self._running.add(parts)
            try:
                # It may have been stopped before it was known to run.
                while not self._is_stopped and (part := next(parts, None)) is not None:
                    if self._heard(job, part):
                        after.put(True)
            finally:
                self._running.discard(parts)
        if self._is_stopped:
            raise Stopped
        return self._ended(session, job)
