"""A session's settings: set at open, part of its identity, and filled in with what the daemon chose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sessiond.adapters.base import ContextSettings, ModelSettings


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The contract's Config, by what each part decides."""

    model: ModelSettings = field(default_factory=ModelSettings)
    """How the model is loaded: sessions that differ here need engines of their own."""
    context: ContextSettings = field(default_factory=ContextSettings)
    prompt_format: str = ""
    """"" is the model's own template, "raw" is none."""
    prompt_template_digest: str = ""
    """What the client expects of the template; empty asks for no check."""
    disable_bos: bool = False

    def with_context(self, settings: ContextSettings) -> SessionConfig:
        """The same, with what the backend runs with."""
        return replace(self, context=settings)
