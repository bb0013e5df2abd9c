"""A reading in short, as a message of the contract."""

from __future__ import annotations

from sessiond.daemon.engine import wire
from sessiond.daemon.metrics.reading import Reading
from sessiond.v1 import model_service_pb2 as pb

_WELL = frozenset({"ok", "cancelled"})


def activity(now: Reading) -> pb.Activity:
    """What the daemon did since it began, and what waits."""
    turns, background, engine = now.turns, now.background, now.engine
    return pb.Activity(
        uptime_ms=now.uptime_s * 1e3,
        sessions=now.sessions.total(),
        busy_sessions=now.sessions["busy"],
        queue_length=engine.waiting,
        queue_wait_ms=turns.queue_wait.mean_s * 1e3,
        turns=turns.outcomes.total(),
        failed_turns=sum(count for (_, how), count in turns.outcomes.items() if how not in _WELL),
        reused_tokens=turns.prefix_tokens["reused"],
        restored_tokens=turns.prefix_tokens["restored"],
        prefilled_tokens=turns.prefix_tokens["prefilled"] + turns.prefix_tokens["unknown"],
        generated_tokens=turns.generated_tokens,
        first_tokens=[
            pb.FirstTokens(kind=kind, turns=took.count, mean_ms=took.mean_s * 1e3)
            for kind, took in turns.first_token.items()
            if took.count
        ],
        dropped_tokens=engine.dropped_tokens + engine.forgotten_tokens,
        keep_hot_tokens=background.keep_hot_tokens.total(),
        superseded_tokens=background.keep_hot_tokens["superseded"],
        engine_deaths=background.engine_deaths,
        engine_restarts=background.engine_restarts,
        memory_tier_bytes=engine.memory_tier,
        computed_tokens=engine.computed_tokens,
        disk=None if engine.disk is None else _disk(engine.disk),
    )


def _disk(told: wire.DiskTold) -> pb.DiskTier:
    return pb.DiskTier(
        open=told.open,
        entries=told.entries,
        size_bytes=told.bytes,
        limit_bytes=told.limit,
        waiting_bytes=told.waiting_bytes,
        failed_entries=told.missed + told.damaged + told.set_aside,
    )
