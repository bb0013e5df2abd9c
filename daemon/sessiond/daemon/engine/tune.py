"""Settings that measure themselves: which way of computing is the fastest for this model on this machine.

The adapter names the ways. Each is timed at what turns are made of: bulk prefill, a small batch, a single token. All
ways take turns, lap by lap, and are compared within a lap: what slows the machine down for a while slows all. The rest
is arithmetic, and errs on the side of what the adapter would choose by itself.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import psutil

from sessiond.adapters.base import ContextSettings, KvContext, Model, Run
from sessiond.daemon.engine import wire

LAPS = 3
SMALL = 16
"""Tokens of a small batch: a short question."""
SINGLES = 3
"""How often a single token is timed in a lap; the quickest counts."""
BULK_S = 0.6
"""Seconds that one bulk prefill should take."""
PROBE = 32
MOST_BULK = 512
"""Tokens of a bulk prefill at most."""
BUSY_PERCENT = 25.0
"""Of all cores, what others may use before a measurement says nothing."""
MARGIN = 0.85
"""Another way than the adapter's own has to take less than this share of its time."""
TURN_BULK = 256
TURN_SINGLES = 64
"""What a turn is taken to be made of where one setting counts for all: so many tokens of an edit computed anew, a
small batch, and an answer of so many tokens."""

Cost = Callable[[wire.Lap], float]


def measure(model: Model) -> wire.Measured:
    """Time every variant. Without variants there is nothing to time."""
    variants = list(model.variants(ContextSettings(num_ctx=_window(model))))
    if not variants:
        return wire.Measured([])
    if psutil.cpu_percent(interval=0.3) > BUSY_PERCENT:
        return wire.Measured([], busy=True)
    with contextlib.ExitStack() as stack:
        contexts: list[KvContext] = []
        for variant in variants:
            context = model.new_context(variant)
            assert isinstance(context, KvContext)
            stack.callback(context.close)
            contexts.append(context)
        bulk = _bulk_size(contexts[0], model.facts.vocab.size)
        tokens = [(index * 7919 + 13) % model.facts.vocab.size for index in range(bulk)]
        laps = [[_lap(context, tokens) for context in contexts] for _ in range(LAPS)]
    trials = [
        wire.Trial(context.settings, [lap[index] for lap in laps]) for index, context in enumerate(contexts)
    ]
    return wire.Measured(trials, bulk)


def choose(measured: wire.Measured) -> ContextSettings | None:
    """The adapter's own settings, with each thing changed in which another way was clearly faster."""
    if not measured.trials:
        return None
    own = measured.trials[0]
    share = TURN_BULK / measured.bulk_tokens
    costs: dict[str, Cost] = {
        "flash_attn": lambda lap: lap.bulk_ms * share + lap.small_ms + TURN_SINGLES * lap.single_ms,
        "num_threads": lambda lap: lap.single_ms,
        "num_threads_batch": lambda lap: lap.bulk_ms * share + lap.small_ms,
        "num_ubatch": lambda lap: lap.bulk_ms,
    }
    chosen = own.settings
    for name, cost in costs.items():
        rivals = [t for t in measured.trials[1:] if getattr(t.settings, name) != getattr(own.settings, name)]
        best = min(rivals, key=lambda trial: _ratio(trial, own, cost), default=own)
        if _ratio(best, own, cost) < MARGIN:
            change: dict[str, object] = {name: getattr(best.settings, name)}
            chosen = replace(chosen, **change)  # type: ignore[arg-type]  # a field's own value
    return chosen


def _ratio(trial: wire.Trial, own: wire.Trial, cost: Cost) -> float:
    """The time that a way took, as a share of that of the adapter's own: the median over the laps."""
    return statistics.median(cost(a) / cost(b) for a, b in zip(trial.laps, own.laps, strict=True))


def _lap(context: KvContext, tokens: Sequence[int]) -> wire.Lap:
    # A micro-batch larger than the bulk would be measured as a smaller one: it is never better then.
    bulk = _timed(context, tokens)
    small = _timed(context, tokens[:SMALL])
    return wire.Lap(bulk, small, min(_timed(context, tokens[:1]) for _ in range(SINGLES)))


def _timed(context: KvContext, tokens: Sequence[int]) -> float:
    """Milliseconds to append these tokens to sequence 0, a micro-batch at a time, as the loop does."""
    began = time.perf_counter()
    grain = context.settings.num_ubatch
    for start in range(0, len(tokens), grain):
        context.decode([Run(0, context.end(0), tokens[start : start + grain], want_logits=True)])
    context.logits(0)
    return (time.perf_counter() - began) * 1e3


def _bulk_size(context: KvContext, vocab_size: int) -> int:
    """As many tokens as take about BULK_S seconds. The first batch warms the machine up."""
    tokens = [(index * 7919 + 13) % vocab_size for index in range(PROBE)]
    _timed(context, tokens)
    rate = PROBE / _timed(context, tokens) * 1e3
    most = min(MOST_BULK, (context.settings.num_ctx - 2 * PROBE) // LAPS - SMALL - SINGLES)
    context.drop(0)
    return max(1, min(most, max(PROBE, int(rate * BULK_S) // PROBE * PROBE)))


def _window(model: Model) -> int:
    return min(LAPS * (MOST_BULK + SMALL + SINGLES) + 2 * PROBE, model.facts.num_ctx_train)
