"""Many who ask at one moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def at_once(acts: Sequence[Callable[[], Result]]) -> tuple[float, list[Result]]:
    """Begin all acts at one moment, each in a thread. That moment, and what they return, in their order. Whoever ends
    this early, with a signal or by the first act that fails, does not wait for the others.
    """
    gate = threading.Barrier(len(acts) + 1)

    def go(act: Callable[[], Result], result: Future[Result]) -> None:
        gate.wait()
        try:
            result.set_result(act())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            result.set_exception(error)

    results: list[Future[Result]] = []
    for act in acts:
        results.append(result := Future[Result]())
        threading.Thread(target=go, args=(act, result), daemon=True).start()
    gate.wait()
    begun = time.perf_counter()
    return begun, [result.result() for result in results]
