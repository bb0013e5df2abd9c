"""An answer that is no longer wanted stops soon."""

from __future__ import annotations

import threading
import time

import pytest

from sessiond.adapters.base import Aborted, Sampling

from .kit import PromptBench, tokens_of


def test_a_long_prefill_stops(prompts: PromptBench) -> None:
    context, prompt = prompts.open_slow(num_ctx=4096), tokens_of(prompts.model, 2000)
    moments: list[float] = []

    def abort() -> None:
        moments.append(time.monotonic())
        context.abort()

    timer = threading.Timer(0.2, abort)
    timer.start()
    with pytest.raises(Aborted):
        list(context.answer(prompt, Sampling(), 5))
    assert time.monotonic() - moments[0] < 1
    timer.join()


def test_an_answer_stops_between_tokens_and_the_context_works_on(prompts: PromptBench) -> None:
    context, prompt = prompts.open(), tokens_of(prompts.model, 100)
    whole = [each.token for each in context.answer(prompt, Sampling(), 20)]
    assert len(whole) > 2
    answer = context.answer(prompt, Sampling(), 20)
    next(answer)
    context.abort()
    with pytest.raises(Aborted):
        list(answer)
    context.clear_abort()
    assert [each.token for each in context.answer(prompt, Sampling(), 20)] == whole


def test_a_flag_that_is_set_stops_the_next_answer_until_it_is_cleared(prompts: PromptBench) -> None:
    context, prompt = prompts.open(), tokens_of(prompts.model, 100)
    context.abort()
    for _ in range(2):
        with pytest.raises(Aborted):
            list(context.answer(prompt, Sampling(), 5))
    context.clear_abort()
    assert list(context.answer(prompt, Sampling(), 5))
