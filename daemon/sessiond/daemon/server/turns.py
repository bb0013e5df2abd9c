"""What all rpcs that answer with tokens have in common: when they came, and what their line in the log says of the answer."""

from __future__ import annotations

import time
from typing import Any, cast

import grpc

from sessiond.daemon.server.boundary import note
from sessiond.daemon.sessions.statuses import Chunk, Timings


def spent_by(context: grpc.aio.ServicerContext[Any, Any]) -> Timings:
    """The times of a request that came now."""
    left = cast(
        "float | None", context.time_remaining()
    )  # its annotation forgets that there may be no deadline
    return Timings(deadline=None if left is None else time.monotonic() + left)


def note_chunk(chunk: Chunk, spent: Timings) -> None:
    """Have the line tell how the answer ended, if this is the last of it."""
    if chunk.summary is not None:
        note(
            generated_tokens=chunk.summary.generated_tokens,
            accepted_tokens=chunk.summary.accepted_tokens,
            finish=chunk.summary.finish_reason,
            first_token_ms=round(spent.first_token_ms, 2),
        )
