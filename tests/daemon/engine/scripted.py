"""What the engine's tests share: scripted models, and naive answers to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sessiond.adapters.base import ContextSettings, Model, ModelSettings, Run, Sampling
from sessiond.adapters.scripted import KV, PROMPT
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.adapters.scripted.prompt import ScriptedPrompt


def load(name: str) -> Model:
    """A scripted model by its name."""
    adapter = KV if KV.accepts(name) else PROMPT
    return adapter.load(name, ModelSettings(), lambda _: None)


def kv_context(model: Model, *, num_ctx: int = 0, num_batch: int = 0, num_ubatch: int = 0) -> ScriptedKv:
    """A context of the kind that exposes its KV."""
    settings = ContextSettings(num_ctx=num_ctx, num_batch=num_batch, num_ubatch=num_ubatch)
    return cast("ScriptedKv", model.new_context(settings))


def prompt_context(model: Model, *, num_ctx: int = 0, num_ubatch: int = 0) -> ScriptedPrompt:
    """A context of the kind that takes prompts."""
    return cast("ScriptedPrompt", model.new_context(ContextSettings(num_ctx=num_ctx, num_ubatch=num_ubatch)))


_FRESH = load("scripted-kv:")


def fresh_logits(tokens: Sequence[int]) -> bytes:
    """The logits after these tokens, by a context that has seen nothing else."""
    context = kv_context(_FRESH)
    context.decode([Run(0, 0, tokens, want_logits=True)])
    return context.logits(0)


def fresh_answer(tokens: Sequence[int], most: int) -> list[int]:
    """The greedy answer to these tokens without its end token, by a context that has seen nothing else."""
    context, sampler = kv_context(_FRESH), _FRESH.new_sampler(Sampling())
    new, found = list(tokens), list[int]()
    while len(found) < most:
        context.decode([Run(0, context.end(0), new, want_logits=True)])
        token = context.sample(0, sampler)
        if token in _FRESH.facts.vocab.end_tokens:
            break
        new = [token]
        found.append(token)
    return found
