"""What the daemon did since it began, and what waits, as `sessionctl status` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sessiond.client.cli.numbers import count, duration, size

if TYPE_CHECKING:
    from sessiond.v1.model_service_pb2 import Activity, DiskTier


def activity_lines(told: Activity) -> Iterator[tuple[str, str]]:
    """What it is about, and a line on it."""
    yield "up", duration(told.uptime_ms)
    waits = f"{count(told.queue_length)} in the queue, {duration(told.queue_wait_ms)} of waiting in the mean"
    yield "busy", f"{count(told.busy_sessions)} of {count(told.sessions)} sessions; {waits}"
    yield "turns", f"{count(told.turns)}, {count(told.failed_turns)} of them failed"
    for each in told.first_tokens:
        yield "", f"first token {each.kind}: {duration(each.mean_ms)} in the mean of {count(each.turns)}"
    there = f"{count(told.reused_tokens)} of prefixes reused, {count(told.restored_tokens)} restored"
    made = f"{count(told.prefilled_tokens)} computed; {count(told.generated_tokens)} answered"
    yield "tokens", f"{there}, {made}"
    superseded = f"{count(told.superseded_tokens)} of them superseded"
    yield "keep-hot", f"{count(told.keep_hot_tokens)} tokens computed, {superseded}"
    dropped = f"{count(told.dropped_tokens)} tokens dropped for room"
    yield "memory", f"{size(told.memory_tier_bytes)} of KV beside the cells; {dropped}"
    if told.HasField("disk"):
        yield "disk", _disk(told.disk)
    if told.engine_deaths:
        yield "engines", f"{count(told.engine_deaths)} died, {count(told.engine_restarts)} started again"


def _disk(told: DiskTier) -> str:
    if not told.open:
        return "cannot be used now"
    held = f"{count(told.entries)} entries, {size(told.size_bytes)} of at most {size(told.limit_bytes)}"
    return f"{held}; {size(told.waiting_bytes)} to be written, {count(told.failed_entries)} entries failed"
