"""A deterministic backend without a model, in both kinds, for tests of everything above the adapters.

Its next token is a function of exactly the tokens from the root, so that any mix-up of KV above it shows as a
wrong answer. See `options` for what a model's name can ask for.
"""

from __future__ import annotations

from typing import Final

from sessiond.adapters.base import Adapter
from sessiond.adapters.scripted.adapter import ScriptedAdapter

KV: Final[Adapter] = ScriptedAdapter("scripted-kv", exposes_kv=True)
"""The kind that exposes its KV; its models are named `scripted-kv:` and options."""

PROMPT: Final[Adapter] = ScriptedAdapter("scripted-prompt", exposes_kv=False)
"""The kind that takes whole prompts; its models are named `scripted-prompt:` and options."""

__all__ = ["KV", "PROMPT"]
