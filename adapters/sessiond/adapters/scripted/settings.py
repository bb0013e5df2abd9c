"""Closes what a context's settings leave open."""

from __future__ import annotations

from dataclasses import replace

from sessiond.adapters.base import ContextSettings, SettingsError

_NUM_BATCH = 512
_NUM_UBATCH = 64
_KV_CACHE_TYPES = ("f16", "q8_0", "q4_0")
_COUNTS = ("num_ctx", "num_cells", "num_batch", "num_ubatch", "num_threads", "num_threads_batch")


def resolve(settings: ContextSettings, num_ctx: int, num_cells: int) -> ContextSettings:
    """The settings with nothing left open; `num_ctx` is the model's own window, and `num_cells` how many cells it
    takes if they are more than the window. Raises SettingsError.
    """
    for name in _COUNTS:
        if getattr(settings, name) < 0:
            raise SettingsError(name, f"scripted: {name} is negative")
    kv_cache_type = settings.kv_cache_type or _KV_CACHE_TYPES[0]
    if kv_cache_type not in _KV_CACHE_TYPES:
        raise SettingsError("kv_cache_type", f"scripted: kv_cache_type {kv_cache_type!r} is unknown")
    num_ctx = settings.num_ctx or num_ctx
    num_cells = settings.num_cells or max(num_cells, num_ctx)
    if num_cells < num_ctx:
        raise SettingsError("num_cells", f"scripted: {num_cells} cells are less than a window of {num_ctx}")
    num_batch = settings.num_batch or min(_NUM_BATCH, num_ctx)
    return replace(
        settings,
        num_ctx=num_ctx,
        num_cells=num_cells,
        num_batch=num_batch,
        num_ubatch=min(settings.num_ubatch or _NUM_UBATCH, num_batch),
        num_threads=settings.num_threads or 1,
        num_threads_batch=settings.num_threads_batch or settings.num_threads or 1,
        flash_attn=bool(settings.flash_attn),
        kv_cache_type=kv_cache_type,
        rope_freq_base=settings.rope_freq_base or 10_000.0,
        rope_freq_scale=settings.rope_freq_scale or 1.0,
    )
