"""What a model keeps of each sequence. It decides what can be done with a context of that model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sessiond.adapters.base import BackendError, ContextSettings, Run
from sessiond.adapters.llama_cpp.library import library
from sessiond.adapters.llama_cpp.state import Layout, find_layout, parts
from sessiond.adapters.llama_cpp.tuning import CACHE_TYPES

if TYPE_CHECKING:
    from sessiond.adapters.llama_cpp.context import LlamaContext


@dataclass(frozen=True, slots=True)
class KvShape:
    """See the module."""

    recurrent: bool
    """Whether there is a state for all tokens together, beside cells or instead of them."""
    window: int
    """Tokens that the layers with a sliding window see; 0 without such layers."""
    remembers: bool = True
    """Whether there is anything that a later token is computed from: not in a model that reads whole texts only."""
    layout: Layout | None = None
    """How its states are laid out; None where that is not known, so that none can be loaded."""
    numbers: int = 0
    """Numbers of KV for each token."""

    @property
    def can_cut(self) -> bool:
        """Whether a sequence can be cut anywhere, from its cells alone."""
        return self.remembers and not self.recurrent and not self.window

    @property
    def can_share(self) -> bool:
        """Whether a sequence can share what another one holds, perhaps with a checkpoint."""
        return self.can_cut or self.layout is not None

    @property
    def max_sequences(self) -> int:
        """A sequence of cells costs a few hundred bytes and room for its logits. A recurrent one costs a state,
        which is many megabytes in real models, from the first moment on. With the scratch they are 64: one more, and
        a step of eight tokens takes 2 to 6% longer (SmolLM2, depth 4,000, two cores; 66 do not).
        """
        return 8 if self.recurrent else 63

    def cell_bytes(self, settings: ContextSettings) -> int:
        """Bytes of KV for each token."""
        return int(self.numbers * CACHE_TYPES[settings.kv_cache_type].bytes_each)


def find_shape(model: Any, make: Callable[[KvShape], LlamaContext]) -> KvShape:
    """What a native model keeps, as it says itself and as a state of two tokens shows it.

    `make` gives a small context with f16 cells for a model of that shape.
    """
    low = library()
    said = KvShape(
        recurrent=bool(low.llama_model_is_recurrent(model) or low.llama_model_is_hybrid(model)),
        window=max(0, int(low.llama_model_n_swa(model))),
    )
    if low.llama_model_has_encoder(model):
        return said
    context = make(said)
    try:
        if not context.remembers:
            return replace(said, remembers=False)
        context.decode([Run(0, 0, [0, 1])])
        state = context.save(0)
    except BackendError:
        return said
    finally:
        context.close()
    layout = find_layout(state)
    # A window has cells of its own in the models that we know. Where it has not, a state has other positions.
    if layout is None or (layout.attention > 1) != (said.window > 0):
        return said
    token_bytes = sum(part.token_bytes for part in parts(state, layout))
    return replace(said, layout=layout, numbers=token_bytes // 2)  # two bytes are an f16
