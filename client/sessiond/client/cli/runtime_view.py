"""How models run and what memory their KV takes, as `sessionctl status` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sessiond.client.cli.numbers import count, size
from sessiond.v1.config_pb2 import FLASH_ATTN_ON

if TYPE_CHECKING:
    from sessiond.v1.config_pb2 import Config
    from sessiond.v1.model_service_pb2 import ArenaRuntime, GetRuntimeResponse, Measurement, ModelRuntime


def runtime_lines(told: GetRuntimeResponse) -> Iterator[tuple[str, str]]:
    """What it is about, and a line on it."""
    for model in told.models:
        yield "runs", f"{model.name}: {_config(model.config)}"
        yield "", _why(model)
    limit = f", at most {size(told.kv_limit_bytes)}" if told.kv_limit_bytes else ""
    free = f"{size(told.kv_free_bytes)} free beside a reserve of {size(told.reserve_bytes)}{limit}"
    beside = f"up to {size(told.memory_tier_limit_bytes)} beside them"
    yield "cells", f"{size(told.kv_bytes)} taken, {free}; {beside}"
    for arena in told.arenas:
        yield "", _arena(arena)


def _arena(arena: ArenaRuntime) -> str:
    held = f"{count(arena.cells)} tokens, {size(arena.kv_bytes)}" if arena.cells else "given back while idle"
    return f"{arena.workspace_root or 'no workspace'}: {held}"


def _why(model: ModelRuntime) -> str:
    if not model.measurements:
        return "not measured on this machine: the backend's own choice"
    own = model.measurements[0]
    ways = len(model.measurements)
    return f"the fastest of {ways} ways that were timed here; the backend's own choice: {_figures(own)}"


def _figures(one: Measurement) -> str:
    return f"{one.bulk_tokens_per_second:.0f} tokens/s, 16 tokens in {one.small_ms:.0f} ms, one in {one.single_ms:.1f} ms"


def _config(config: Config) -> str:
    attention = "on" if config.flash_attn == FLASH_ATTN_ON else "off"
    return (
        f"flash attention {attention}, micro-batches of {config.num_ubatch}, threads {config.num_threads} "
        f"for one token and {config.num_threads_batch} for many"
    )
