"""What a backend is told: how to load a model, how to make a context, how to choose tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """A low-rank adapter and the factor on its weights."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is loaded. Two equal values share one engine."""

    num_gpu_layers: int | None = None
    """Layers on the GPU; None leaves it to the backend."""
    tensor_split: tuple[float, ...] = ()
    main_gpu: int = 0
    split_mode: str = ""
    """"", "none", "layer" or "row"."""
    use_mmap: bool = True
    use_mlock: bool = False
    loras: tuple[LoraSettings, ...] = ()
    extra_buffers: bool = True
    """Weights may be repacked for the CPU's wide instructions. Off after a fault in the first decode."""


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How a context is made. 0, empty or None leaves the choice to the backend, which says what it chose."""

    num_ctx: int = 0
    """Tokens that one sequence may hold."""
    num_cells: int = 0
    """Tokens that all sequences together may hold, at least `num_ctx`; 0 is `num_ctx`."""
    num_batch: int = 0
    num_ubatch: int = 0
    num_threads: int = 0
    num_threads_batch: int = 0
    flash_attn: bool | None = None
    deterministic: bool = False
    variant: str = ""
    """The adapter's own word for how it makes a deterministic context: found by a trial, and given back to it later
    to spare another one. A word that it does not know is as good as none."""
    kv_cache_type: str = ""
    rope_freq_base: float = 0.0
    rope_freq_scale: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; field names, units and neutral values as in the contract's DecodeConfig."""

    seed: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0
    min_p: float = 0.0
    typical_p: float = 0.0
    repeat_penalty: float = 0.0
    repeat_last_n: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    samplers: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""
    """GBNF that the answer must follow; empty for none."""
    logprobs: int = 0
    """How many of the likeliest tokens are told with each token."""


SAMPLER_ORDER = ("penalties", "top_k", "typical_p", "top_p", "min_p", "temperature")
"""The samplers by name, in the order that holds where none is given."""

DEFAULT_LAST_N = 64
"""Tokens that count as lately where `repeat_last_n` is 0."""
