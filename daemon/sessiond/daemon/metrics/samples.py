"""A reading as samples of the metrics in `table`: the values of the labels, and a number or a histogram."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from sessiond.daemon.engine import wire
from sessiond.daemon.histogram import Histogram
from sessiond.daemon.metrics.reading import Reading
from sessiond.daemon.metrics.turns import METHODS, TurnCounts
from sessiond.daemon.sessions.tally import Tally

Sample: TypeAlias = tuple[str, tuple[str, ...], float | Histogram]
"""The metric's name, a value for each of its labels, and what it is."""

STATES = ("ready", "busy", "fatal")
"""Of sessions that are not closed."""
RUN_ENDS = ("finished", "superseded")
PREFIX_SOURCES = ("reused", "restored", "prefilled", "unknown")
SUFFIX_SOURCES = ("reused", "prefilled")
_ENTRY_OUTCOMES = ("written", "read", "missed", "damaged", "evicted", "dropped", "set_aside")


def samples(now: Reading) -> Iterator[Sample]:
    """All samples. What can be known before it happens is told as 0, so that a first event is a rise."""
    yield "sessiond_info", (now.version,), 1.0
    yield "sessiond_uptime_seconds", (), now.uptime_s
    for state in STATES:
        yield "sessiond_sessions", (state,), now.sessions[state]
    yield "sessiond_cells", (), now.cells
    yield "sessiond_cells_bytes", (), now.cells_bytes
    yield "sessiond_cells_free_bytes", (), now.cells_free_bytes
    yield "sessiond_memory_tier_limit_bytes", (), now.memory_tier_limit
    yield "sessiond_engines", (), now.engines
    yield "sessiond_engines_waiting", (), now.engines_waiting
    yield from _of_engines(now.engine)
    yield from _of_turns(now.turns)
    yield from _of_background(now.background)
    if now.engine.disk is not None:
        yield from _of_disk(now.engine.disk)


def _of_engines(told: wire.Tallied) -> Iterator[Sample]:
    for rank, jobs in (("decode", told.decodes), ("prefill", told.prefills), ("keep_hot", told.keep_hots)):
        yield "sessiond_engine_jobs", (rank,), jobs
    yield "sessiond_queue_length", (), told.waiting
    yield "sessiond_memory_tier_bytes", (), told.memory_tier
    yield "sessiond_computed_tokens_total", (), told.computed_tokens
    yield "sessiond_evicted_tokens_total", ("cells", "memory"), told.kept_tokens
    yield "sessiond_evicted_tokens_total", ("cells", "nowhere"), told.dropped_tokens
    yield "sessiond_evicted_tokens_total", ("memory", "nowhere"), told.forgotten_tokens
    yield "sessiond_restored_tokens_total", ("memory",), told.restored_tokens
    yield "sessiond_restored_tokens_total", ("disk",), told.fetched_tokens


def _of_turns(turns: TurnCounts) -> Iterator[Sample]:
    for method in METHODS:
        yield "sessiond_turns_total", (method, "ok"), turns.outcomes[method, "ok"]
    for (method, outcome), count in sorted(turns.outcomes.items()):
        if outcome == "ok":
            continue
        yield "sessiond_turns_total", (method, outcome), count
    for kind, took in turns.first_token.items():
        yield "sessiond_first_token_seconds", (kind,), took
    yield "sessiond_queue_wait_seconds", (), turns.queue_wait
    for source in PREFIX_SOURCES:
        yield "sessiond_prefix_tokens_total", (source,), turns.prefix_tokens[source]
    for source in SUFFIX_SOURCES:
        yield "sessiond_suffix_tokens_total", (source,), turns.suffix_tokens[source]
    yield "sessiond_generated_tokens_total", (), turns.generated_tokens


def _of_background(tally: Tally) -> Iterator[Sample]:
    yield "sessiond_engine_starts_total", (), tally.engine_starts
    yield "sessiond_engine_restarts_total", (), tally.engine_restarts
    yield "sessiond_engine_deaths_total", (), tally.engine_deaths
    for end in RUN_ENDS:
        yield "sessiond_keep_hot_runs_total", (end,), tally.keep_hot_runs[end]
        yield "sessiond_keep_hot_tokens_total", (end,), tally.keep_hot_tokens[end]
    yield "sessiond_keep_hot_lag_seconds", (), tally.keep_hot_lag


def _of_disk(disk: wire.DiskTold) -> Iterator[Sample]:
    yield "sessiond_disk_tier_open", (), disk.open
    yield "sessiond_disk_tier_entries", (), disk.entries
    yield "sessiond_disk_tier_bytes", (), disk.bytes
    yield "sessiond_disk_tier_limit_bytes", (), disk.limit
    yield "sessiond_disk_tier_waiting_bytes", (), disk.waiting_bytes
    yield "sessiond_disk_tier_kv_bytes_total", (), disk.kv_bytes
    yield "sessiond_disk_tier_written_bytes_total", (), disk.file_bytes
    for outcome in _ENTRY_OUTCOMES:
        yield "sessiond_disk_tier_entries_total", (outcome,), getattr(disk, outcome)
