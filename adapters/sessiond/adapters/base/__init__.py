"""What a backend must do. Every adapter passes the contract suite in `tests/adapters`."""

from sessiond.adapters.base.adapter import Adapter, Model
from sessiond.adapters.base.embed import Embedder
from sessiond.adapters.base.errors import (
    Aborted,
    BackendError,
    ModelLoadError,
    NoRoom,
    SettingsError,
    Unsupported,
)
from sessiond.adapters.base.facts import Capabilities, FimTokens, ModelFacts, VocabFacts
from sessiond.adapters.base.kv import Held, KvContext, Likely, Run, Sampler
from sessiond.adapters.base.prompt import PromptContext, Prompted
from sessiond.adapters.base.settings import (
    DEFAULT_LAST_N,
    SAMPLER_ORDER,
    ContextSettings,
    LoraSettings,
    ModelSettings,
    Sampling,
)

__all__ = [
    "DEFAULT_LAST_N",
    "SAMPLER_ORDER",
    "Aborted",
    "Adapter",
    "BackendError",
    "Capabilities",
    "ContextSettings",
    "Embedder",
    "FimTokens",
    "Held",
    "KvContext",
    "Likely",
    "LoraSettings",
    "Model",
    "ModelFacts",
    "ModelLoadError",
    "ModelSettings",
    "NoRoom",
    "PromptContext",
    "Prompted",
    "Run",
    "Sampler",
    "Sampling",
    "SettingsError",
    "Unsupported",
    "VocabFacts",
]
