"""What makes KV reusable: everything that changes the numbers which the backend computes for given tokens."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

from sessiond.adapters.base import ContextSettings, ModelFacts, ModelSettings


def digest_of(value: object) -> str:
    """SHA-256 of a value made of plain parts."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def runtime_digest(loading: ModelSettings, context: ContextSettings) -> str:
    """Digest of the settings that change the numbers: the type of the cells, flash attention, rotary settings, low-rank
    adapters, where the layers run. Threads and batch sizes change no more than the rounding.
    """
    return digest_of(
        {
            "flash_attn": context.flash_attn,
            "deterministic": context.deterministic,
            "kv_cache_type": context.kv_cache_type,
            "rope": [context.rope_freq_base, context.rope_freq_scale],
            "loras": [[lora.path, lora.scale] for lora in loading.loras],
            "gpu": [
                loading.num_gpu_layers,
                list(loading.tensor_split),
                loading.main_gpu,
                loading.split_mode,
            ],
            "extra_buffers": loading.extra_buffers,
        }
    )


def kv_identity(facts: ModelFacts, loading: ModelSettings, context: ContextSettings) -> dict[str, str]:
    """What KV on a disk is bound to, by name. Prompt formats are no part of it: they make other tokens, and tokens are
    compared. The processor is: another one has other kernels. So are the cells: where a model was trained in two steps,
    their number decides which rotary factors hold.
    """
    return {
        "backend": facts.backend,
        "backend_version": facts.backend_version,
        "model_digest": facts.model_digest,
        "tokenizer_digest": facts.vocab.digest,
        "runtime_digest": runtime_digest(loading, context),
        "variant": context.variant,
        "num_cells": str(context.num_cells),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    wanted = ("model name", "flags", "Features")
    first: dict[str, str] = {}
    for line in told.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            first.setdefault(name.strip(), value.strip())
    return digest_of([platform.machine(), platform.processor(), first])
