"""The two adapters, told apart by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessiond.adapters.base import Model, ModelLoadError, ModelSettings
from sessiond.adapters.scripted.model import ScriptedModel
from sessiond.adapters.scripted.options import parse


@dataclass(frozen=True, slots=True)
class ScriptedAdapter:
    """Loads models that are named by its name, a colon and options."""

    name: str
    exposes_kv: bool

    def accepts(self, model: str) -> bool:
        """Whether the name is one of its own. Reads no file."""
        return model.startswith(f"{self.name}:")

    def load(self, model: str, settings: ModelSettings, progress: Callable[[float], None]) -> Model:
        """Raises ModelLoadError for a name or an option that it does not know. May end the process: `die`."""
        if not self.accepts(model):
            raise ModelLoadError(f"{self.name}: {model!r} is not one of its models")
        options = parse(model.removeprefix(f"{self.name}:"), exposes_kv=self.exposes_kv)
        return ScriptedModel(self.name, options, settings, progress, exposes_kv=self.exposes_kv)
