"""One chain of llama.cpp samplers for one stream."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from sessiond.adapters.base import (
    DEFAULT_LAST_N,
    SAMPLER_ORDER,
    BackendError,
    Sampling,
    SettingsError,
    Unsupported,
)
from sessiond.adapters.base.grammar import GrammarError, Guard
from sessiond.adapters.llama_cpp.candidates import Candidates
from sessiond.adapters.llama_cpp.library import library

LEAST = 1e-30
"""Of the likeliest token's probability: what a token has to have to count among typical ones."""


class SamplerChain:
    """See `sessiond.adapters.base.Sampler`."""

    def __init__(self, sampling: Sampling, vocab_size: int, guard: Guard | None = None) -> None:
        low = self._low = library()
        self._guard = guard
        self.native = low.llama_sampler_chain_init(low.llama_sampler_chain_default_params())
        for link in _links(sampling, vocab_size):
            low.llama_sampler_chain_add(self.native, link)

    def prime(self, tokens: Sequence[int]) -> None:
        """See `Sampler.prime`."""
        for token in tokens:
            self._low.llama_sampler_accept(self.native, token)

    @property
    def ended(self) -> bool:
        """See `Sampler.ended`."""
        return self._guard is not None and self._guard.ended

    @property
    def guarded(self) -> bool:
        """Whether a grammar watches what it chooses: then `choose` does."""
        return self._guard is not None

    def choose(self, logits: bytes) -> int:
        """The next token by these logits, one that the grammar allows if there is one; it is remembered. Raises as
        `KvContext.sample`.

        llama.cpp's own grammar sampler is not used: it ends the process where a grammar leads nowhere, and never ends
        over some grammars (see ADR 0015).
        """
        candidates = Candidates(logits)
        if self._guard is None:
            token = self._any_of(candidates)
        else:
            token = self._guard.choose(lambda out, only: candidates.draw(self.native, out, only))
        self._low.llama_sampler_accept(self.native, token)
        return token

    def _any_of(self, candidates: Candidates) -> int:
        """One of all tokens. Raises SettingsError where `logit_bias` forbids them all."""
        try:
            return candidates.draw(self.native, (), None)
        except GrammarError as error:
            raise SettingsError("logit_bias", "forbids every token") from error

    def close(self) -> None:
        """See `Sampler.close`."""
        if self.native:
            self._low.llama_sampler_free(self.native)
            self.native = None


def _links(sampling: Sampling, vocab_size: int) -> list[Any]:
    low = library()
    links: list[Any] = []
    if sampling.logit_bias:
        links.append(_bias(sampling, vocab_size))
    for name in sampling.samplers or SAMPLER_ORDER:
        if name not in SAMPLER_ORDER:
            raise Unsupported("samplers")
        if name == "typical_p" and 0 < sampling.typical_p < 1:
            # llama.cpp takes the logarithm of every probability, and one of 0 makes nonsense of all.
            links.append(low.llama_sampler_init_min_p(LEAST, 1))
        if (link := _link(name, sampling, vocab_size)) is not None:
            links.append(link)
    greedy = sampling.temperature <= 0
    links.append(low.llama_sampler_init_greedy() if greedy else low.llama_sampler_init_dist(sampling.seed))
    return links


def _link(name: str, sampling: Sampling, vocab_size: int) -> Any | None:
    """The sampler of this name; None where its setting is neutral."""
    low = library()
    match name:
        case "penalties":
            return _penalties(sampling, vocab_size)
        case "top_k" if sampling.top_k > 0:
            return low.llama_sampler_init_top_k(sampling.top_k)
        case "typical_p" if 0 < sampling.typical_p < 1:
            return low.llama_sampler_init_typical(sampling.typical_p, 1)
        case "top_p" if 0 < sampling.top_p < 1:
            return low.llama_sampler_init_top_p(sampling.top_p, 1)
        case "min_p" if sampling.min_p > 0:
            return low.llama_sampler_init_min_p(sampling.min_p, 1)
        case "temperature" if sampling.temperature > 0:
            return low.llama_sampler_init_temp(sampling.temperature)
        case _:
            return None


def _penalties(sampling: Sampling, vocab_size: int) -> Any | None:
    repeat = sampling.repeat_penalty or 1.0
    if repeat == 1.0 and not sampling.frequency_penalty and not sampling.presence_penalty:
        return None
    return library().llama_sampler_init_penalties(
        vocab_size,
        sampling.repeat_last_n or DEFAULT_LAST_N,
        repeat,
        sampling.frequency_penalty,
        sampling.presence_penalty,
    )


def _bias(sampling: Sampling, vocab_size: int) -> Any:
    low = library()
    if any(not 0 <= token < vocab_size for token, _ in sampling.logit_bias):
        raise BackendError("logit_bias names a token that is not in the vocabulary")
    entries = (low.llama_logit_bias * len(sampling.logit_bias))(
        *(low.llama_logit_bias(token=token, bias=bias) for token, bias in sampling.logit_bias)
    )
    pointer_to: Any = ctypes.POINTER  # its types are not known before they are made
    first = ctypes.cast(entries, pointer_to(low.llama_logit_bias))
    return low.llama_sampler_init_logit_bias(vocab_size, len(entries), first)
