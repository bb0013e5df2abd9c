"""llama.cpp, through the low-level functions of llama-cpp-python. Nothing else names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessiond.adapters.base import Model, ModelSettings
from sessiond.adapters.llama_cpp.embedded import embedded_model

__all__ = ["ADAPTER", "LlamaCppAdapter", "embedded_model"]


@dataclass(frozen=True, slots=True)
class LlamaCppAdapter:
    """See `sessiond.adapters.base.Adapter`."""

    name: str = "llama.cpp"

    def accepts(self, model: str) -> bool:
        """Any path: whether it is a GGUF file, `load` says with a sentence."""
        return "/" in model or model.endswith(".gguf")

    def load(self, model: str, settings: ModelSettings, progress: Callable[[float], None]) -> Model:
        """See `Adapter.load`."""
        from sessiond.adapters.llama_cpp.model import load

        return load(model, settings, progress)


ADAPTER = LlamaCppAdapter()
