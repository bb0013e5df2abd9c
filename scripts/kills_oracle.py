"""What the right answer is: the model itself, in this process, over a context that has seen nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import lru_cache

from sessiond.adapters.base import ContextSettings, KvContext, ModelSettings, Run, Sampling
from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.engine.backends import adapter_for, adapters

_PACE = ("step_ms", "load_ms")
"""Options of a scripted model that take time and change no answer."""
_REMEMBERED = 4096
"""Answers, and texts' tokens."""


class Oracle:
    """The model of this name, empty is the default. Any thread may ask. Raises InvalidInput, ModelLoadError."""

    def __init__(self, model: str, window: int) -> None:
        path = asyncio.run(ModelCatalog(_unhurried(model), []).resolve(""))
        adapter = adapter_for(path)
        if adapter is None:
            raise ValueError(f"no backend takes {path}")
        self._model = adapters()[adapter].load(path, ModelSettings(), lambda _share: None)
        self._settings = ContextSettings(num_ctx=window, deterministic=True)
        self._lock = threading.Lock()
        self.tokens = lru_cache(_REMEMBERED)(self._tokens)
        self.answer = lru_cache(_REMEMBERED)(self._answer)

    def _tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a segment."""
        return tuple(self._model.tokenize(text, parse_special=False))

    def _answer(self, tokens: tuple[int, ...], most: int) -> tuple[int, ...]:
        """The greedy answer to these tokens, of at most so many, without an end token."""
        with self._lock:
            context = self._model.new_context(self._settings)
            assert isinstance(context, KvContext)
            try:
                return tuple(self._greedy(context, tokens, most))
            finally:
                context.close()

    def _greedy(self, context: KvContext, tokens: Sequence[int], most: int) -> list[int]:
        sampler = self._model.new_sampler(Sampling())
        found, new = list[int](), list(tokens)
        try:
            while True:
                for at in range(0, len(new), context.settings.num_batch):
                    chunk = new[at : at + context.settings.num_batch]
                    context.decode([Run(0, context.end(0), chunk, want_logits=True)])
                if len(found) == most:
                    return found
                token = context.sample(0, sampler)
                if token in self._model.facts.vocab.end_tokens:
                    return found
                found.append(token)
                new = [token]
        finally:
            sampler.close()

    def close(self) -> None:
        """Give the model back."""
        self._model.close()


def _unhurried(model: str) -> str:
    """A scripted model without its pace; any other as it is."""
    scheme, colon, options = model.partition(":")
    if not scheme.startswith("scripted-"):
        return model
    kept = [item for item in options.split(",") if item.partition("=")[0] not in _PACE]
    return scheme + colon + ",".join(kept)
