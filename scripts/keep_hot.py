#!/usr/bin/env python3
"""What a prefill in the background costs whoever asks meanwhile: the first token of a short turn, with and without it.

    .venv/bin/python scripts/keep_hot.py [--background 4000] [--depth 1000] [--pairs 7]

The engine runs in its own process, as in the daemon. A turn is 16 new tokens after a warm prefix, and its first token.
The limit for what is added, in the median, is one micro-batch (measured in the same run) and 20 ms. Prints one JSON
object; status 1 if it is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time

from sessiond.adapters.base import ContextSettings, ModelSettings, Sampling
from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.engine.engine import Engine, Generation
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.pool import EnginePool
from sessiond.daemon.logs import set_up_logs

SUFFIX = 16
ALLOWED_MS = 20.0


def some_tokens(count: int, seed: int, vocab: int) -> list[int]:
    """Different for every seed."""
    return [(index * 7919 + seed * 104_729 + 13) % vocab for index in range(count)]


async def first_token_ms(engine: Engine, tokens: list[int]) -> float:
    """A turn up to its first token."""
    began = time.perf_counter()
    async for _piece in engine.generate("turn", tokens, Generation(Sampling(), 1), lambda _held: None):
        return (time.perf_counter() - began) * 1e3
    raise AssertionError("an answer without a token")


async def micro_batch_ms(engine: Engine, tokens: list[int]) -> float:
    """One micro-batch behind the prefix, as the background computes it."""
    began = time.perf_counter()
    await engine.advance("hot", tokens, lambda _done, _total: None, lambda _held: None)
    return (time.perf_counter() - began) * 1e3


async def measure(model: str, background: int, depth: int, pairs: int) -> dict[str, object]:
    """All of it, in pairs that alternate."""
    pool = EnginePool(lambda _engine: None, lambda _engine, _died: None)
    catalog = ModelCatalog(model, [])
    engine = await pool.get(EngineKey(await catalog.resolve(""), ModelSettings()))
    vocab, grain = engine.facts.vocab.size, engine.defaults.num_ubatch
    settings = ContextSettings(num_ctx=8192, num_cells=depth + (background + grain) * 2 + pairs * 8 * SUFFIX)
    try:
        for branch in ("turn", "hot"):
            await engine.open(branch, "workspace", settings)
        prefix = some_tokens(depth, 0, vocab)
        await engine.advance("turn", prefix, lambda _done, _total: None, lambda _held: None)
        alone: list[float] = []
        beside: list[float] = []
        batch: list[float] = []
        seed = 0
        for _ in range(pairs):
            seed += 3
            alone.append(await first_token_ms(engine, prefix + some_tokens(SUFFIX, seed, vocab)))
            batch.append(await micro_batch_ms(engine, prefix + some_tokens(grain, seed + 1, vocab)))
            hot = asyncio.create_task(
                engine.advance(
                    "hot",
                    some_tokens(background, seed + 2, vocab),
                    lambda _done, _total: None,
                    lambda _held: None,
                    background=True,
                )
            )
            await asyncio.sleep(1.0)
            assert not hot.done(), "the background was done before anybody asked"
            beside.append(await first_token_ms(engine, prefix + some_tokens(SUFFIX, seed + 1000, vocab)))
            hot.cancel()
            await asyncio.wait([hot])
    finally:
        await pool.stop()
    added = statistics.median(beside) - statistics.median(alone)
    return {
        "alone_ms": statistics.median(alone),
        "beside_ms": statistics.median(beside),
        "added_ms": added,
        "micro_batch_tokens": grain,
        "micro_batch_ms": statistics.median(batch),
        "allowed_ms": statistics.median(batch) + ALLOWED_MS,
    }


def main() -> int:
    """Measure and print; 1 if the limit is exceeded."""
    parser = argparse.ArgumentParser(description="What a prefill in the background costs a turn.")
    parser.add_argument("--model", default="", help="name or path; the embedded one if left out")
    parser.add_argument("--background", type=int, default=4000, help="tokens of the background prefill")
    parser.add_argument("--depth", type=int, default=1000, help="tokens of the warm prefix")
    parser.add_argument("--pairs", type=int, default=7)
    asked = parser.parse_args()
    set_up_logs("console", "warning")
    told = asyncio.run(measure(asked.model, asked.background, asked.depth, asked.pairs))
    sys.stdout.write(json.dumps(told) + "\n")
    added, allowed = told["added_ms"], told["allowed_ms"]
    assert isinstance(added, float) and isinstance(allowed, float)
    return 0 if added <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
