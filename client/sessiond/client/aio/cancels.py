"""Telling whose a CancelledError is: asyncio's, which ends the task, or gRPC's, which only says that a call was cancelled."""

from __future__ import annotations

import asyncio


def is_of_task() -> bool:
    """Whether the running task is being cancelled. If not, the call was: by its stream's end, or with its channel."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
