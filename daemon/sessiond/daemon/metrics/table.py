"""Every metric by name: what it is, in which unit, and by which labels. The values come from `readings`.

Names follow Prometheus: base units, `_total` for what only grows. A label has few values, all of them known here or words
of the contract: never a path, a name or a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS = (
    Metric("sessiond_info", "gauge", "1, with the version of the daemon.", ("version",)),
    Metric("sessiond_uptime_seconds", "gauge", "Seconds since the daemon began."),
    Metric(
        "sessiond_sessions", "gauge", "Sessions that are not closed, by what they can do now.", ("state",)
    ),
    Metric("sessiond_engines", "gauge", "Engines that stand, one for each loaded model."),
    Metric(
        "sessiond_engines_waiting",
        "gauge",
        "Engines that died too often in a row, and wait before they may be started again.",
    ),
    Metric("sessiond_engine_starts_total", "counter", "Engines that were started and stood."),
    Metric("sessiond_engine_restarts_total", "counter", "Starts after a death of the same model's engine."),
    Metric("sessiond_engine_deaths_total", "counter", "Engines that died after they had stood."),
    Metric("sessiond_engine_jobs", "gauge", "Jobs at work or waiting, by rank.", ("rank",)),
    Metric("sessiond_queue_length", "gauge", "Jobs and other commands that are in no batch at the moment."),
    Metric(
        "sessiond_queue_wait_seconds",
        "histogram",
        "From a turn's arrival in the engine until it was first looked at, over all of its parts.",
    ),
    Metric(
        "sessiond_turns_total",
        "counter",
        "Turns that ended, by method, and by ok, cancelled, or the reason of the error.",
        ("method", "outcome"),
    ),
    Metric(
        "sessiond_first_token_seconds",
        "histogram",
        "From a request's arrival to the first token of its answer, by kind of turn.",
        ("kind",),
    ),
    Metric(
        "sessiond_prefix_tokens_total",
        "counter",
        "Tokens of prefixes that were asked for, by where their KV came from.",
        ("source",),
    ),
    Metric(
        "sessiond_suffix_tokens_total",
        "counter",
        "Tokens of suffixes, by where their KV came from.",
        ("source",),
    ),
    Metric("sessiond_generated_tokens_total", "counter", "Tokens of answers that were sent."),
    Metric("sessiond_keep_hot_runs_total", "counter", "Background prefills that ended.", ("outcome",)),
    Metric(
        "sessiond_keep_hot_tokens_total",
        "counter",
        "Tokens that these computed. Those of superseded runs are the waste, at most: what a later run shares is not.",
        ("outcome",),
    ),
    Metric("sessiond_keep_hot_lag_seconds", "histogram", "From a save until its prefix was computed."),
    Metric("sessiond_cells", "gauge", "Tokens that the cells of all workspaces may hold."),
    Metric("sessiond_cells_bytes", "gauge", "Bytes that these cells take."),
    Metric("sessiond_cells_free_bytes", "gauge", "Bytes that more cells could take now."),
    Metric("sessiond_memory_tier_bytes", "gauge", "Bytes of KV that are kept in memory beside the cells."),
    Metric("sessiond_memory_tier_limit_bytes", "gauge", "Bytes that each engine may keep there."),
    Metric(
        "sessiond_computed_tokens_total",
        "counter",
        "Tokens that engines computed, whatever for: prefixes, suffixes, answers, arguments of functions.",
    ),
    Metric(
        "sessiond_evicted_tokens_total",
        "counter",
        "Tokens whose KV left a tier: from cells to memory, from cells or memory to nowhere.",
        ("source", "target"),
    ),
    Metric(
        "sessiond_restored_tokens_total",
        "counter",
        "Tokens whose KV came back into cells, by tier: also those that keep-hot brought back.",
        ("source",),
    ),
    Metric("sessiond_disk_tier_open", "gauge", "Engines whose disk tier can be used."),
    Metric("sessiond_disk_tier_entries", "gauge", "Entries on disk."),
    Metric("sessiond_disk_tier_bytes", "gauge", "Bytes of their files."),
    Metric("sessiond_disk_tier_limit_bytes", "gauge", "Bytes that they may take."),
    Metric("sessiond_disk_tier_waiting_bytes", "gauge", "Bytes of KV that wait to be written."),
    Metric("sessiond_disk_tier_kv_bytes_total", "counter", "Bytes of KV that were written."),
    Metric(
        "sessiond_disk_tier_written_bytes_total",
        "counter",
        "Bytes of the files written for it. Over the bytes of KV: the write amplification.",
    ),
    Metric(
        "sessiond_disk_tier_entries_total",
        "counter",
        "What became of entries.",
        ("outcome",),
    ),
)
