"""How the next token is chosen."""

from __future__ import annotations

import pytest

from sessiond.adapters.base import KvContext, Sampling, Unsupported

from .kit import KvBench, argmax, floats, prefill, tokens_of


@pytest.fixture
def context(kv: KvBench) -> KvContext:
    """A context with logits after a prompt."""
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 60))
    return context


def _draw(kv: KvBench, context: KvContext, sampling: Sampling, count: int = 24) -> list[int]:
    sampler = kv.sampler(sampling)
    return [context.sample(0, sampler) for _ in range(count)]


def test_greedy_takes_the_likeliest(kv: KvBench, context: KvContext) -> None:
    best = argmax(context.logits(0))
    assert _draw(kv, context, Sampling()) == [best] * 24


def test_greedy_ignores_the_seed(kv: KvBench, context: KvContext) -> None:
    assert _draw(kv, context, Sampling(seed=1)) == _draw(kv, context, Sampling(seed=2))


def test_the_same_seed_draws_the_same(kv: KvBench, context: KvContext) -> None:
    sampling = Sampling(seed=7, temperature=2.0)
    assert _draw(kv, context, sampling) == _draw(kv, context, sampling)


def test_another_seed_draws_otherwise(kv: KvBench, context: KvContext) -> None:
    one, other = Sampling(seed=7, temperature=2.0), Sampling(seed=8, temperature=2.0)
    assert _draw(kv, context, one) != _draw(kv, context, other)


def test_samplers_do_not_disturb_each_other(kv: KvBench, context: KvContext) -> None:
    sampling = Sampling(seed=7, temperature=2.0)
    one, other = kv.sampler(sampling), kv.sampler(sampling)
    pairs = [(context.sample(0, one), context.sample(0, other)) for _ in range(12)]
    assert all(left == right for left, right in pairs)


def test_a_temperature_draws_more_than_one_token(kv: KvBench, context: KvContext) -> None:
    assert len(set(_draw(kv, context, Sampling(temperature=5.0)))) > 1


def test_top_k_draws_from_the_k_likeliest(kv: KvBench, context: KvContext) -> None:
    values = floats(context.logits(0))
    likeliest = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:3]
    drawn = _draw(kv, context, Sampling(temperature=10.0, top_k=3), 40)
    assert set(drawn) <= set(likeliest)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    "narrow",
    [Sampling(temperature=1.0, top_p=1e-6), Sampling(temperature=1.0, min_p=1.0)],
    ids=["top_p", "min_p"],
)
def test_a_narrow_choice_takes_the_likeliest(kv: KvBench, context: KvContext, narrow: Sampling) -> None:
    assert set(_draw(kv, context, narrow)) == {argmax(context.logits(0))}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_moves_the_choice(kv: KvBench, context: KvContext, temperature: float) -> None:
    best = argmax(context.logits(0))
    wanted = best - 1 if best else 1
    pushed = Sampling(temperature=temperature, logit_bias=((wanted, 1000.0),))
    assert set(_draw(kv, context, pushed)) == {wanted}
    forbidden = Sampling(temperature=temperature, logit_bias=((best, float("-inf")),))
    assert best not in _draw(kv, context, forbidden)


@pytest.mark.parametrize(
    "penalty",
    [Sampling(presence_penalty=1000.0), Sampling(frequency_penalty=1000.0)],
    ids=["presence", "frequency"],
)
def test_penalties_count_what_was_chosen(kv: KvBench, context: KvContext, penalty: Sampling) -> None:
    drawn = _draw(kv, context, penalty, 5)
    assert len(set(drawn)) == 5


def test_penalties_count_what_was_primed(kv: KvBench, context: KvContext) -> None:
    best = argmax(context.logits(0))
    sampler = kv.sampler(Sampling(presence_penalty=1000.0))
    sampler.prime([best])
    assert context.sample(0, sampler) != best


def test_penalties_look_back_as_far_as_they_are_told(kv: KvBench, context: KvContext) -> None:
    best = argmax(context.logits(0))
    sampler = kv.sampler(Sampling(presence_penalty=1000.0, repeat_last_n=1))
    sampler.prime([best])
    drawn = [context.sample(0, sampler) for _ in range(4)]
    assert drawn[0] != best
    assert drawn[1] == best
    assert drawn[2:] == drawn[:2]


def test_a_repeat_penalty_lowers_what_came(kv: KvBench, context: KvContext) -> None:
    best = argmax(context.logits(0))
    sampler = kv.sampler(Sampling(repeat_penalty=1000.0))
    sampler.prime([best])
    if max(floats(context.logits(0))) > 0:
        assert context.sample(0, sampler) != best


def test_an_order_of_samplers_may_be_given(kv: KvBench, context: KvContext) -> None:
    best = argmax(context.logits(0))
    order = ("temperature", "top_k")
    assert set(_draw(kv, context, Sampling(temperature=3.0, top_k=1, samplers=order))) == {best}
    # What the order leaves out does not happen.
    without = Sampling(temperature=5.0, top_k=1, samplers=("temperature",))
    assert len(set(_draw(kv, context, without))) > 1


def test_an_unknown_sampler_is_unsupported(kv: KvBench) -> None:
    with pytest.raises(Unsupported) as caught:
        kv.sampler(Sampling(samplers=("top_k", "dice")))
    assert caught.value.feature == "samplers"


def test_closing_a_sampler_twice_is_once(kv: KvBench) -> None:
    sampler = kv.sampler(Sampling())
    sampler.close()
    sampler.close()
