"""A thread on which the blocking client speaks gRPC, so that the caller's thread never does.

What a signal's handler raises comes up in the main thread at whatever line it has reached. If that line is gRPC's, the
channel is left with a call that no thread serves, or with a lock that nobody gives back, and closing it waits for ever.
(It was KeyboardInterrupt at the end of `integrated_call`: the call is registered with its channel by then, and the
thread that would serve it not yet started.) So a caller leaves its work here, and waits on a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from sessiond.client import threads

Work: TypeAlias = Callable[[], object]
Result = TypeVar("Result")


class Backstage:
    """Does what is left to it, one after the other. Its thread ends when nobody knows this object any more."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        threads.start(partial(_run, self._work))

    def leave(self, work: Work) -> None:
        """Have it done, after all that was left before. It should raise nothing."""
        self._work.put(work)

    def wait_for(self, work: Callable[[], Result]) -> Result:
        """Have it done, and wait until it is. Raises what it raises."""
        done: SimpleQueue[Result | Exception] = SimpleQueue()
        self._work.put(lambda: done.put(threads.outcome_of(work)))
        return threads.given(threads.wait_for(done))

    def __del__(self) -> None:
        if hasattr(self, "_work"):  # else something was raised while this was made
            self._work.put(None)


def _run(queue: SimpleQueue[Work | None]) -> None:
    while (work := queue.get()) is not None:
        threads.outcome_of(work)
        del work  # it may be the last that knows what it was for
