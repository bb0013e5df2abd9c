"""What makes an engine another one."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.adapters.base import ModelSettings


@dataclass(frozen=True, slots=True)
class EngineKey:
    """A model, and the way of loading it."""

    model: str
    settings: ModelSettings
