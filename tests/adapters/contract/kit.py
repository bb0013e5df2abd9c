"""What the contract's tests share: a few ways to use and to compare the models under test."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import cast

from sessiond.adapters.base import (
    ContextSettings,
    KvContext,
    Model,
    PromptContext,
    Prompted,
    Run,
    Sampler,
    Sampling,
)

_TEXT = """\
def mean(values: list[float]) -> float:
    # Café prices in €, without those that are None.
    known = [value for value in values if value is not None]
    return sum(known) / len(known)

The user asks the assistant to name the longest river in Europe, and why it is called so. 😒
"""


def small(**changes: object) -> ContextSettings:
    """Settings for a small context: several micro-batches and batches in a few hundred tokens."""
    chosen: dict[str, object] = {
        "num_ctx": 512,
        "num_batch": 256,
        "num_ubatch": 64,
        "num_threads": 2,
        "num_threads_batch": 2,
    }
    return ContextSettings(**(chosen | changes))  # type: ignore[arg-type]  # names and types are the caller's


@dataclass
class KvBench:
    """A model whose KV is exposed, and its contexts and samplers: all are closed after the test."""

    model: Model
    slow_model: Callable[[], Model]
    tolerance: float
    """Logits of one text may differ by this where a context is not deterministic."""
    _to_close: list[KvContext | Sampler] = field(default_factory=list[KvContext | Sampler])

    @property
    def cuts(self) -> bool:
        """Whether a sequence can be cut anywhere."""
        return self.model.facts.capabilities.truncate

    @property
    def has_cells(self) -> bool:
        """Whether each token takes room. It does not in a model that is nothing but a state."""
        return self.model.cell_bytes(small()) > 0

    def open(self, **settings: object) -> KvContext:
        """A context with `small` settings and these changes."""
        return self._open(self.model, **settings)

    def open_exact(self, **settings: object) -> KvContext:
        """The same, deterministic where that is offered."""
        return self.open(deterministic=self.model.facts.capabilities.deterministic, **settings)

    def open_branching(self, **settings: object) -> KvContext:
        """For several sequences: deterministic where such a context holds them, otherwise not."""
        context = self.open_exact(**settings)
        return context if context.max_sequences > 1 else self.open(**settings)

    def assert_as_fresh(
        self, context: KvContext, logits: bytes, tokens: Sequence[int], **settings: object
    ) -> None:
        """These logits are those after these tokens: bit for bit if the context is deterministic."""
        exact = context.settings.deterministic
        fresh = self.fresh_logits(tokens, **(settings | {"deterministic": exact}))
        if exact:
            assert logits == fresh
        else:
            self.assert_near(logits, fresh)

    def assert_near(self, one: bytes, other: bytes) -> None:
        """The same up to rounding: no logit is far off, and each side's best is about the other side's best."""
        left, right = floats(one), floats(other)
        assert len(left) == len(right)
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= self.tolerance
        assert right[argmax(one)] >= max(right) - self.tolerance
        assert left[argmax(other)] >= max(left) - self.tolerance

    def open_slow(self, **settings: object) -> KvContext:
        """The same, of a model that takes its time."""
        return self._open(self.slow_model(), **settings)

    def sampler(self, sampling: Sampling) -> Sampler:
        sampler = self.model.new_sampler(sampling)
        self._to_close.append(sampler)
        return sampler

    def fresh_logits(self, tokens: Sequence[int], **settings: object) -> bytes:
        """Logits after these tokens in a context that never held anything else."""
        context = self.open(**settings)
        try:
            return prefill(context, 0, tokens)
        finally:
            context.close()

    def close(self) -> None:
        for each in reversed(self._to_close):
            each.close()

    def _open(self, model: Model, **settings: object) -> KvContext:
        context = cast("KvContext", model.new_context(small(**settings)))
        self._to_close.append(context)
        return context


@dataclass
class PromptBench:
    """A model that takes whole prompts, and its contexts: all are closed after the test."""

    model: Model
    slow_model: Callable[[], Model]
    _to_close: list[PromptContext] = field(default_factory=list[PromptContext])

    def open(self, **settings: object) -> PromptContext:
        return self._open(self.model, **settings)

    def open_slow(self, **settings: object) -> PromptContext:
        return self._open(self.slow_model(), **settings)

    def close(self) -> None:
        for context in reversed(self._to_close):
            context.close()

    def _open(self, model: Model, **settings: object) -> PromptContext:
        context = cast("PromptContext", model.new_context(small(**settings)))
        self._to_close.append(context)
        return context


def tokens_of(model: Model, count: int, opening: str = "") -> list[int]:
    """That many tokens of a text; another opening gives another text from the first token on."""
    text = model.tokenize(_TEXT, parse_special=False)
    start = model.tokenize(opening, parse_special=False)
    return [*start, *islice(cycle(text), count)][:count]


def prefill(context: KvContext, sequence: int, tokens: Sequence[int], chunk: int | None = None) -> bytes:
    """Append tokens to a sequence in batches of `chunk`; the logits after the last one."""
    size = chunk or context.settings.num_batch
    for start in range(0, len(tokens), size):
        part = tokens[start : start + size]
        context.decode([Run(sequence, context.end(sequence), part, start + size >= len(tokens))])
    return context.logits(0)


def floats(logits: bytes) -> array[float]:
    """Logits as numbers."""
    return array("f", logits)


def argmax(logits: bytes) -> int:
    """The likeliest token."""
    values = floats(logits)
    return values.index(max(values))


def stop(answer: Iterator[Prompted]) -> None:
    """Close the iterator of an answer."""
    cast("Generator[Prompted, None, None]", answer).close()
