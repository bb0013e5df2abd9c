"""How likely tokens were: by the model's own logits, whatever the samplers make of them."""

from __future__ import annotations

import math

import pytest

from sessiond.adapters.base import KvContext, Run, Sampling

from .kit import KvBench, floats, prefill, tokens_of


@pytest.fixture
def context(kv: KvBench) -> KvContext:
    """A context with logits after a prompt."""
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 60))
    return context


def _reference(logits: bytes) -> list[float]:
    values = floats(logits)
    top = max(values)
    total = math.fsum(math.exp(value - top) for value in values)
    return [value - top - math.log(total) for value in values]


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_they_are_the_softmax_of_the_logits(kv: KvBench, context: KvContext, count: int) -> None:
    expected = _reference(context.logits(0))
    token = 7
    found = context.likely(0, token, count)
    assert found.taken[0] == token
    assert found.taken[1] == pytest.approx(expected[token], abs=1e-4)
    logits = floats(context.logits(0))
    order = sorted(range(len(expected)), key=lambda each: (-logits[each], each))
    assert [each for each, _ in found.top] == order[:count]
    for each, logprob in found.top:
        assert logprob == pytest.approx(expected[each], abs=1e-4)


def test_all_tokens_together_are_certain(kv: KvBench, context: KvContext) -> None:
    size = kv.model.facts.vocab.size
    found = context.likely(0, 0, size)
    assert math.fsum(math.exp(logprob) for _, logprob in found.top) == pytest.approx(1.0, abs=1e-6)


def test_no_sampler_changes_them(kv: KvBench, context: KvContext) -> None:
    before = context.likely(0, 3, 3)
    sampler = kv.sampler(Sampling(temperature=3.0, top_k=1, logit_bias=((3, 50.0),)))
    context.sample(0, sampler)
    assert context.likely(0, 3, 3) == before


def test_the_lead_is_that_of_the_likeliest_over_the_next(kv: KvBench, context: KvContext) -> None:
    first, second = sorted(floats(context.logits(0)), reverse=True)[:2]
    assert context.lead(0) == pytest.approx(first - second, abs=1e-6)


def test_what_does_not_round_has_the_logits_of_single_tokens_in_every_batch(kv: KvBench) -> None:
    tokens, found = tokens_of(kv.model, 60), list[bytes]()
    for context in (kv.open(), kv.open_exact()):
        if context.rounding or not kv.cuts:
            continue
        prefill(context, 0, tokens[:52])
        for at in range(52, 60):
            context.decode([Run(0, at, tokens[at : at + 1], 1)])
            found.append(context.logits(0))
        assert context.truncate(0, 52)
        context.decode([Run(0, 52, tokens[52:], 8)])
        assert [context.logits(0, back) for back in reversed(range(8))] == found
        found.clear()
    if kv.model.facts.capabilities.deterministic:
        assert kv.open_exact().rounding == 0
