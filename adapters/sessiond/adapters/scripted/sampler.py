"""Chooses tokens by logits: all samplers of the contract, in pure Python."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import accumulate

from sessiond.adapters.base import SAMPLER_ORDER, BackendError, Sampling, Unsupported
from sessiond.adapters.base.grammar import GrammarError, Guard
from sessiond.adapters.scripted import vocab

_DEFAULT_LAST_N = 64

_Candidates = list[tuple[float, int]]
"""Logit and token, likeliest first."""


class ScriptedSampler:
    """Chooses tokens for one stream and remembers those it chose. Valid until `close`."""

    def __init__(self, sampling: Sampling, guard: Guard | None = None) -> None:
        """Raises Unsupported for an unknown sampler, BackendError for a bias of an unknown token."""
        if any(name not in SAMPLER_ORDER for name in sampling.samplers):
            raise Unsupported("samplers")
        vocab.check([token for token, _ in sampling.logit_bias])
        self._sampling = sampling
        self._guard = guard
        self._order = sampling.samplers or SAMPLER_ORDER
        last_n = sampling.repeat_last_n or _DEFAULT_LAST_N
        self._chosen: deque[int] = deque(maxlen=last_n if last_n > 0 else None)
        self._random = random.Random(sampling.seed)
        self._penalizes = "penalties" in self._order and (
            sampling.repeat_penalty not in {0.0, 1.0}
            or sampling.frequency_penalty != 0
            or sampling.presence_penalty != 0
        )
        self._closed = False

    def prime(self, tokens: Sequence[int]) -> None:
        """Take these tokens as already chosen, so that penalties count them."""
        self._check_open()
        self._chosen.extend(tokens)

    def choose(self, logits: bytes) -> int:
        """The next token by these logits; it is remembered."""
        self._check_open()
        if self._guard is None:
            token = self._drawn(logits, (), None)
        else:
            token = self._guard.choose(lambda out, only: self._drawn(logits, out, only))
        self._chosen.append(token)
        return token

    @property
    def ended(self) -> bool:
        """Whether its grammar is complete, and nothing can follow."""
        return self._guard is not None and self._guard.ended

    def _drawn(self, logits: bytes, out: Sequence[int], only: Sequence[int] | None) -> int:
        values = array("f", logits)
        for token, bias in self._sampling.logit_bias:
            values[token] += bias
        kept = set(range(len(values)) if only is None else only).difference(out)
        for token in range(len(values)):
            if token not in kept:
                values[token] = -math.inf
        if max(values) == -math.inf:
            raise GrammarError("allows only tokens here that logit_bias forbids")
        if self._sampling.temperature <= 0:
            if self._penalizes:
                self._penalize(values)
            return values.index(max(values))
        return self._draw(values)

    def close(self) -> None:
        """Twice is once."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("scripted: the sampler is closed")

    def _penalize(self, values: array[float]) -> None:
        told = self._sampling
        factor = told.repeat_penalty or 1.0
        for token, count in Counter(self._chosen).items():
            value = values[token]
            value = value * factor if value <= 0 else value / factor
            values[token] = value - count * told.frequency_penalty - told.presence_penalty

    def _draw(self, values: array[float]) -> int:
        candidates: _Candidates = []

        def sort() -> None:
            candidates[:] = sorted(zip(values, range(len(values)), strict=True), key=_likeliest_first)

        # Penalties work on all tokens at once; behind a sampler that cut some off they count for the rest.
        sort()
        for name in self._order:
            if name == "penalties":
                if self._penalizes:
                    kept = {token for _, token in candidates}
                    self._penalize(values)
                    sort()
                    candidates[:] = [each for each in candidates if each[1] in kept]
            else:
                candidates[:] = _FILTERS[name](candidates, self._sampling)
        weights = _probabilities(candidates)
        return self._random.choices([token for _, token in candidates], weights)[0]


def _likeliest_first(candidate: tuple[float, int]) -> tuple[float, int]:
    return -candidate[0], candidate[1]


def _probabilities(candidates: _Candidates) -> list[float]:
    top = max(logit for logit, _ in candidates)
    weights = [math.exp(logit - top) for logit, _ in candidates]
    total = sum(weights)
    return [weight / total for weight in weights]


def _top_k(candidates: _Candidates, told: Sampling) -> _Candidates:
    return candidates[: told.top_k] if told.top_k > 0 else candidates


def _top_p(candidates: _Candidates, told: Sampling) -> _Candidates:
    if not 0 < told.top_p < 1:
        return candidates
    before = accumulate(_probabilities(candidates), initial=0.0)
    return [each for each, below in zip(candidates, before, strict=False) if below < told.top_p]


def _min_p(candidates: _Candidates, told: Sampling) -> _Candidates:
    if told.min_p <= 0:
        return candidates
    least = candidates[0][0] + math.log(min(told.min_p, 1.0))
    return [each for each in candidates if each[0] >= least]


def _typical_p(candidates: _Candidates, told: Sampling) -> _Candidates:
    if not 0 < told.typical_p < 1:
        return candidates
    shares = _probabilities(candidates)
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    # Those whose surprise is nearest to the expected one, until they make up the share that is asked for.
    odd = [abs(-math.log(share) - entropy) if share > 0 else math.inf for share in shares]
    nearest = sorted(range(len(shares)), key=odd.__getitem__)
    before = accumulate((shares[index] for index in nearest), initial=0.0)
    kept = [index for index, below in zip(nearest, before, strict=False) if below < told.typical_p]
    return [candidates[index] for index in sorted(kept)]


def _temperature(candidates: _Candidates, told: Sampling) -> _Candidates:
    return [(logit / told.temperature, token) for logit, token in candidates]


_FILTERS: dict[str, Callable[[_Candidates, Sampling], _Candidates]] = {
    "top_k": _top_k,
    "typical_p": _typical_p,
    "top_p": _top_p,
    "min_p": _min_p,
    "temperature": _temperature,
}
