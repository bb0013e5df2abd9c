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
    """The settings with nothing left open. Raises SettingsError for what llama.cpp would refuse or abort on."""
    kind = settings.kv_cache_type or "f16"
    if kind not in CACHE_TYPES:
        raise SettingsError("kv_cache_type", f"{kind!r} is none of {', '.join(CACHE_TYPES)}")
    num_ctx = settings.num_ctx or min(trained.num_ctx, DEFAULT_WINDOW)
    if num_ctx > trained.num_ctx:
        raise SettingsError(
            "num_ctx", f"{num_ctx} is more than the {trained.num_ctx} the model was trained for"
        )
    num_batch = min(settings.num_batch or 2048, num_ctx)
    threads = _physical_cores()
    return replace(
        settings,
        num_ctx=num_ctx,
        num_batch=num_batch,
        num_ubatch=min(settings.num_ubatch or DEFAULT_GRAIN, num_batch),
        num_threads=settings.num_threads or threads,
        num_threads_batch=settings.num_threads_batch or threads,
        flash_attn=_flash_attn(settings, quantized=CACHE_TYPES[kind].quantized, on_gpu=on_gpu),
        kv_cache_type=kind,
        rope_freq_base=settings.rope_freq_base or trained.rope_freq_base,
        rope_freq_scale=settings.rope_freq_scale or trained.rope_freq_scale,
    )


def _flash_attn(settings: ContextSettings, *, quantized: bool, on_gpu: bool) -> bool:
    """On where V is quantized, which needs it, and on a GPU. Elsewhere off: on CPUs small batches, which are what a
    warm turn is made of, are four to eight times faster without (docs/architecture.md), and in deterministic mode
    its results depend on the shape of a batch.
    """
    if settings.flash_attn is None:
        return quantized or (on_gpu and not settings.deterministic)
    if quantized and not settings.flash_attn:
        raise SettingsError("flash_attn", "a quantized KV cache needs flash attention")
    return settings.flash_attn


def _physical_cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
