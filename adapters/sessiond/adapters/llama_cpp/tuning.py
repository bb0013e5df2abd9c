"""What the adapter chooses where the settings leave it open, and what it refuses."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import psutil

from sessiond.adapters.base import ContextSettings, SettingsError

DEFAULT_WINDOW = 8192
"""Tokens. A model's own window may be far larger than what a laptop's memory holds."""

DEFAULT_GRAIN = 256
"""Tokens of a micro-batch: what waits behind a prefill waits for one of them. Larger ones are hardly faster."""

GRAINS = (128, 256, 512)
"""Micro-batches that are worth a measurement."""

_ALLOWED_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Asked before llama.cpp is loaded: OpenMP may bind the thread that loads it to one of them."""


@dataclass(frozen=True, slots=True)
class CacheType:
    """A type of KV cells."""

    native: int
    """Its number in ggml.h."""
    bytes_each: float
    quantized: bool


CACHE_TYPES = {
    "f16": CacheType(1, 2.0, quantized=False),
    "q4_0": CacheType(2, 18 / 32, quantized=True),
    "q8_0": CacheType(8, 34 / 32, quantized=True),
}


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a model was trained with."""

    num_ctx: int
    rope_freq_base: float
    rope_freq_scale: float


def resolve(settings: ContextSettings, trained: ModelDefaults, *, on_gpu: bool) -> ContextSettings:
    """The settings with nothing left open, but for attention if they are deterministic. Raises SettingsError for what llama.cpp would refuse or abort on."""
    kind = settings.kv_cache_type or "f16"
    if kind not in CACHE_TYPES:
        raise SettingsError("kv_cache_type", f"{kind!r} is none of {', '.join(CACHE_TYPES)}")
    num_ctx = settings.num_ctx or min(trained.num_ctx, DEFAULT_WINDOW)
    if num_ctx > trained.num_ctx:
        raise SettingsError(
            "num_ctx", f"{num_ctx} is more than the {trained.num_ctx} the model was trained for"
        )
    num_cells = settings.num_cells or num_ctx
    if num_cells < num_ctx:
        raise SettingsError("num_cells", f"{num_cells} cells are less than a window of {num_ctx}")
    num_batch = min(settings.num_batch or 2048, num_cells)
    threads = _physical_cores()
    return replace(
        settings,
        num_ctx=num_ctx,
        num_cells=num_cells,
        num_batch=num_batch,
        num_ubatch=min(settings.num_ubatch or DEFAULT_GRAIN, num_batch),
        num_threads=settings.num_threads or threads,
        num_threads_batch=settings.num_threads_batch or threads,
        flash_attn=_flash_attn(settings, quantized=CACHE_TYPES[kind].quantized, on_gpu=on_gpu),
        kv_cache_type=kind,
        rope_freq_base=settings.rope_freq_base or trained.rope_freq_base,
        rope_freq_scale=settings.rope_freq_scale or trained.rope_freq_scale,
    )


def _flash_attn(settings: ContextSettings, *, quantized: bool, on_gpu: bool) -> bool | None:
    """On where V is quantized, which needs it, and on a GPU. Elsewhere off: on CPUs small batches, which are what a
    warm turn is made of, are four to eight times faster without (docs/architecture.md). In deterministic mode it
    stays open: what is deterministic decides.
    """
    if settings.flash_attn is None:
        return None if settings.deterministic and not quantized else quantized or on_gpu
    if quantized and not settings.flash_attn:
        raise SettingsError("flash_attn", "a quantized KV cache needs flash attention")
    return settings.flash_attn


def variants(settings: ContextSettings, trained: ModelDefaults, *, on_gpu: bool) -> list[ContextSettings]:
    """See `Model.variants`. The first is what `resolve` chooses; each other one differs from it in one thing, as all
    combinations would be too many to measure. What helps a single token (`num_threads`) and what helps a batch
    (`num_threads_batch`, `num_ubatch`) may be put together; attention counts for both.
    """
    default = resolve(settings, trained, on_gpu=on_gpu)
    found = [default]

    def add(**change: int | bool) -> None:
        changed = replace(default, **change)  # type: ignore[arg-type]  # names and types are those below
        if changed not in found:
            found.append(changed)

    if settings.flash_attn is None and not _needs_one_attention(default):
        add(flash_attn=not default.flash_attn)
    if not settings.num_ubatch:
        for grain in GRAINS:
            add(num_ubatch=min(grain, default.num_batch))
    for threads in () if on_gpu else _thread_counts():
        if not settings.num_threads:
            add(num_threads=threads)
        if not settings.num_threads_batch:
            add(num_threads_batch=threads)
    return found if len(found) > 1 else []


def _needs_one_attention(settings: ContextSettings) -> bool:
    """Whether flash attention is no matter of speed."""
    return settings.deterministic or CACHE_TYPES[settings.kv_cache_type].quantized


def _thread_counts() -> list[int]:
    """All logical cores, the physical ones, and half of these: another program may need the rest."""
    physical = _physical_cores()
    return sorted({max(1, physical // 2), physical, _ALLOWED_CORES})


def _physical_cores() -> int:
    return max(1, min(_ALLOWED_CORES, psutil.cpu_count(logical=False) or _ALLOWED_CORES))
