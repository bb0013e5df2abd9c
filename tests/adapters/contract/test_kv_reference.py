"""Each knob of sampling against its definition, written down naively: what may come, and how often."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sessiond.adapters.base import KvContext, Sampling

from .kit import KvBench, floats, prefill, tokens_of

DRAWS = 300

Chances = dict[int, float]
"""Logits of the tokens that may come."""


@pytest.fixture
def context(kv: KvBench) -> KvContext:
    """A context with logits after a prompt."""
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 60))
    return context


def _shares(logits: Chances) -> Chances:
    top = max(logits.values())
    weights = {token: math.exp(logit - top) for token, logit in logits.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def _first(logits: Chances, order: Sequence[int], share: float) -> Chances:
    """Tokens in this order until they have this share together."""
    shares, kept, together = _shares(logits), Chances(), 0.0
    for token in order:
        if together >= share:
            break
        kept[token] = logits[token]
        together += shares[token]
    return kept


def _likeliest_first(logits: Chances) -> list[int]:
    return sorted(logits, key=lambda token: -logits[token])


def _top_k(logits: Chances, told: Sampling) -> Chances:
    return {token: logits[token] for token in _likeliest_first(logits)[: told.top_k or None]}


def _typical(logits: Chances, told: Sampling) -> Chances:
    if not 0 < told.typical_p < 1:
        return logits
    shares = {token: share for token, share in _shares(logits).items() if share > 0}
    entropy = -math.fsum(share * math.log(share) for share in shares.values())
    order = sorted(shares, key=lambda token: abs(-math.log(shares[token]) - entropy))
    return _first(logits, order, told.typical_p)


def _top_p(logits: Chances, told: Sampling) -> Chances:
    return _first(logits, _likeliest_first(logits), told.top_p) if 0 < told.top_p < 1 else logits


def _min_p(logits: Chances, told: Sampling) -> Chances:
    least = max(logits.values()) + math.log(told.min_p) if told.min_p else -math.inf
    return {token: logit for token, logit in logits.items() if logit >= least}


def _temperature(logits: Chances, told: Sampling) -> Chances:
    return {token: logit / told.temperature for token, logit in logits.items()}


def _penalized(logits: Chances, told: Sampling, came: Sequence[int]) -> Chances:
    found, factor = dict(logits), told.repeat_penalty or 1.0
    for token in set(came):
        logit = logits[token] * factor if logits[token] <= 0 else logits[token] / factor
        found[token] = logit - came.count(token) * told.frequency_penalty - told.presence_penalty
    return found


_IN_ORDER: tuple[Callable[[Chances, Sampling], Chances], ...] = (
    _top_k,
    _typical,
    _top_p,
    _min_p,
    _temperature,
)


def _reference(logits: Sequence[float], told: Sampling, came: Sequence[int]) -> Chances:
    """The probability of each token that may come."""
    chances = dict(enumerate(logits))
    for token, bias in told.logit_bias:
        chances[token] += bias
    chances = _penalized(chances, told, came)
    for sampler in _IN_ORDER:
        chances = sampler(chances, told)
    return _shares(chances)


KNOBS = {
    "temperature": Sampling(temperature=0.7),
    "high temperature": Sampling(temperature=3.0),
    "top_k": Sampling(temperature=1.3, top_k=5),
    "top_p": Sampling(temperature=1.0, top_p=0.6),
    "min_p": Sampling(temperature=1.0, min_p=0.2),
    "typical_p": Sampling(temperature=1.0, typical_p=0.4),
    "typical_p where a token is forbidden": Sampling(
        temperature=1.0, typical_p=0.4, logit_bias=((5, -math.inf), (7, -math.inf))
    ),
    "repeat_penalty": Sampling(temperature=1.0, top_k=8, repeat_penalty=1.5),
    "frequency_penalty": Sampling(temperature=1.0, top_k=8, frequency_penalty=0.8),
    "presence_penalty": Sampling(temperature=1.0, top_k=8, presence_penalty=1.2),
    "logit_bias": Sampling(temperature=1.0, top_k=8, logit_bias=((5, 3.0), (7, -2.0))),
    "all of them": Sampling(
        temperature=0.9,
        top_k=30,
        typical_p=0.95,
        top_p=0.9,
        min_p=0.02,
        repeat_penalty=1.1,
        presence_penalty=0.3,
    ),
}


@pytest.mark.parametrize("knob", KNOBS)
def test_what_comes_is_what_the_definition_says(kv: KvBench, context: KvContext, knob: str) -> None:
    told = KNOBS[knob]
    logits = list(floats(context.logits(0)))
    best = _likeliest_first(dict(enumerate(logits)))
    came = [best[0], best[0], best[2], best[0]]
    expected = _reference(logits, told, came)
    surprise = [-math.log(expected[token]) for token in _drawn(kv, context, told, came) if token in expected]
    assert len(surprise) == DRAWS, "a token came that may not"
    mean = math.fsum(share * -math.log(share) for share in expected.values() if share > 0)
    square = math.fsum(share * math.log(share) ** 2 for share in expected.values() if share > 0)
    error = math.sqrt(max(0.0, square - mean**2) / DRAWS)
    assert abs(math.fsum(surprise) / DRAWS - mean) <= 5 * error + 1e-3


def _drawn(kv: KvBench, context: KvContext, told: Sampling, came: Sequence[int]) -> list[int]:
    """One token of each seed, each with the same past."""
    found: list[int] = []
    for seed in range(DRAWS):
        sampler = kv.model.new_sampler(replace(told, seed=seed))
        sampler.prime(came)
        found.append(context.sample(0, sampler))
        sampler.close()
    return found
