"""What an adapter is: the code for one inference library, found by the entry point group `sessiond.adapters`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sessiond.adapters.base.embed import Embedder
from sessiond.adapters.base.facts import ModelFacts
from sessiond.adapters.base.kv import KvContext, Sampler
from sessiond.adapters.base.prompt import PromptContext
from sessiond.adapters.base.settings import ContextSettings, ModelSettings, Sampling


class Model(Protocol):
    """A loaded model. `tokenize` and `pieces` may be called from any thread at any time."""

    @property
    def facts(self) -> ModelFacts:
        """What it is."""
        ...

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """The tokens of a text, without an opening token. With `parse_special` the names of special tokens
        are read as these tokens: never for text that comes from files or users.
        """
        ...

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token; a special token has none. Raises BackendError for an unknown id."""
        ...

    def variants(self, settings: ContextSettings) -> Sequence[ContextSettings]:
        """The same settings with what they leave open chosen in every way that may be the fastest on some machine.
        The engine measures which one is. None of them means that there is nothing to choose.
        """
        ...

    def cell_bytes(self, settings: ContextSettings) -> int:
        """Bytes of KV for each token in a context of these settings; 0 if the backend does not say."""
        ...

    def free_memory(self) -> int | None:
        """Bytes that are free where contexts of this model live; None where that is the machine's own memory."""
        ...

    def new_context(self, settings: ContextSettings) -> KvContext | PromptContext:
        """A fresh context. Raises SettingsError or BackendError."""
        ...

    def new_sampler(self, sampling: Sampling) -> Sampler:
        """A sampler for one stream over a KvContext. Raises Unsupported for what it cannot do, and SettingsError on
        "grammar" for a grammar that is none.
        """
        ...

    def new_embedder(self) -> Embedder:
        """What makes vectors of texts, on the resources of a context of its own. Raises Unsupported("embed")."""
        ...

    def close(self) -> None:
        """Give everything back, contexts included. Twice is once."""
        ...


class Adapter(Protocol):
    """One inference library. Importing an adapter must not import its library: `load` does."""

    @property
    def name(self) -> str:
        """The backend's name, as in the manifest."""
        ...

    def accepts(self, model: str) -> bool:
        """Whether this name or path looks like one of its models. Must not read more than a file's head."""
        ...

    def load(self, model: str, settings: ModelSettings, progress: Callable[[float], None]) -> Model:
        """Load a model; `progress` hears shares of 1. Raises ModelLoadError, SettingsError, BackendError."""
        ...
