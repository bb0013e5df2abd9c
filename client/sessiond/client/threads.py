"""Threads, and waiting for them, in a way that a signal can always interrupt and never break.

`threading.Thread` and `threading.Condition` are not made for that: what a signal's handler raises within them may leave a
lock taken, or comes out as a RuntimeError about one. What stands here is done or not done, whatever is raised.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")

_LOOK_UP_SECONDS = 0.1


def start(work: Callable[[], object]) -> None:
    """Run this in a thread of its own. The program does not wait for it at its end."""
    _thread.start_new_thread(work, ())


def wait_for(queue: SimpleQueue[Item]) -> Item:
    """The next item of a queue."""
    while True:
        try:
            # Not without an end: a signal that comes just before is handled only when the wait is over.
            return queue.get(timeout=_LOOK_UP_SECONDS)
        except Empty:
            continue


def outcome_of(work: Callable[[], Item]) -> Item | Exception:
    """What it returns, or what it raises: for a thread that waits, which takes it with `given`."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - raised again where it is waited for
        return error


def given(outcome: Item | Exception) -> Item:
    """What was returned. Raises what was raised."""
    try:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    finally:
        del (
            outcome
        )  # an exception knows the frames it passed: one that knows it too would keep all of them alive
