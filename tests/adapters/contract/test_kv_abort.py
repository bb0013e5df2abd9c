"""A decode that is no longer wanted stops soon, and what it finished is good."""

from __future__ import annotations

import threading
import time

import pytest

from sessiond.adapters.base import Aborted, KvContext, Run

from .kit import KvBench, prefill, tokens_of

_LONG = 2000


def _abort_after(context: KvContext, seconds: float, moments: list[float]) -> threading.Timer:
    def abort() -> None:
        moments.append(time.monotonic())
        context.abort()

    timer = threading.Timer(seconds, abort)
    timer.start()
    return timer


def test_a_long_decode_stops_and_its_finished_part_is_good(kv: KvBench) -> None:
    context = kv.open_slow(
        num_ctx=2048, num_batch=2048, deterministic=kv.model.facts.capabilities.deterministic
    )
    tokens = tokens_of(kv.model, _LONG)
    moments: list[float] = []
    timer = _abort_after(context, 0.3, moments)
    with pytest.raises(Aborted):
        context.decode([Run(0, 0, tokens, want_logits=True)])
    stopped = time.monotonic()
    timer.join()
    assert stopped - moments[0] < 1
    done = context.end(0)
    assert 0 <= done < _LONG
    context.clear_abort()
    upto = tokens[: done + 1]
    logits = prefill(context, 0, upto[done:])
    fresh = kv.open_slow(num_ctx=2048, num_batch=2048, deterministic=context.settings.deterministic)
    if context.settings.deterministic:
        assert logits == prefill(fresh, 0, upto)
    else:
        kv.assert_near(logits, prefill(fresh, 0, upto))


def test_an_abort_spares_what_was_there_before(kv: KvBench) -> None:
    context = kv.open_slow(num_ctx=2048, num_batch=2048)
    first = tokens_of(kv.model, 40, "first ")
    prefill(context, 0, first[:-1])
    context.share(0, 1, len(first) - 1)
    timer = _abort_after(context, 0.1, [])
    with pytest.raises(Aborted):
        context.decode([Run(1, len(first) - 1, tokens_of(kv.model, 1900))])
    timer.join()
    context.clear_abort()
    context.drop(1)
    assert context.end(0) == len(first) - 1
    kv.assert_near(prefill(context, 0, first[-1:]), prefill(kv.open_slow(), 0, first))


def test_a_flag_that_is_set_stops_the_next_decode_until_it_is_cleared(kv: KvBench) -> None:
    context, tokens = kv.open_exact(), tokens_of(kv.model, 60)
    context.abort()
    for _ in range(2):
        with pytest.raises(Aborted):
            context.decode([Run(0, 0, tokens)])
        assert context.end(0) == 0
    context.clear_abort()
    kv.assert_as_fresh(context, prefill(context, 0, tokens), tokens)


def test_one_context_is_aborted_and_not_another(kv: KvBench) -> None:
    context, other = kv.open(), kv.open()
    context.abort()
    prefill(other, 0, tokens_of(kv.model, 20))
    assert other.end(0) == 20


def test_a_flag_may_be_set_and_cleared_at_any_time(kv: KvBench) -> None:
    context = kv.open()
    context.clear_abort()
    context.abort()
    context.abort()
    context.clear_abort()
    prefill(context, 0, tokens_of(kv.model, 20))
    assert context.end(0) == 20
