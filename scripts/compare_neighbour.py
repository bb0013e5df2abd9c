"""How fast one session decodes while another workspace lies idle beside it."""

from __future__ import annotations

from benchmark.turns import TURN_SECONDS, complete, greedy, sessions
from compare_bench import Bench
from compare_verdict import Outcome, median
from sessiond.client import Session

SPEED = 0.95


def neighbour(bench: Bench) -> Outcome:
    """See the module. Measured without the neighbour, with it, and without it again."""
    sizes, outcome = bench.sizes, Outcome()
    window = sizes.prefix + sizes.suffix + sizes.answer
    with sessions(bench.client, bench.folder / "busy", 1, window) as [session]:
        session.ensure_prefix(text=bench.texts.take(sizes.prefix).text, timeout=TURN_SECONDS)
        _token_ms(bench, session)  # warms up
        before = [_token_ms(bench, session) for _ in range(sizes.repeats)]
        # No room beside the prefix, or it would be more than a small model's own window.
        with sessions(bench.client, bench.folder / "idle", 1, sizes.neighbour, room=64) as [idle]:
            idle.ensure_prefix(text=bench.texts.take(sizes.neighbour).text, timeout=TURN_SECONDS)
            beside = [_token_ms(bench, session) for _ in range(sizes.repeats)]
        after = [_token_ms(bench, session) for _ in range(sizes.repeats)]
    outcome.figures = {"token_ms": {"before": before, "beside": beside, "after": after}}
    outcome.at_least(
        "decode speed beside an idle workspace / without it", median(before + after) / median(beside), SPEED
    )
    return outcome


def _token_ms(bench: Bench, session: Session) -> float:
    """Milliseconds for each token of an answer."""
    config = greedy(bench.sizes.answer, never=bench.texts.end_tokens)
    return complete(session, bench.texts.take(bench.sizes.suffix).text, config).token_ms
