"""The machine's description: what a model's speed depends on, and not whose machine it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

_MOST = 1 << 20
"""Bytes that are read of a file; they are files of the kernel, and a few KiB long."""
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "f16c",
    "neon",
    "asimd",
    "sve",
)


def machine() -> dict[str, Any]:
    """Figures by name; what the system does not tell is missing. Sizes are bytes."""
    memory, cpu = _read("/proc/meminfo"), _read("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", _after("flags", cpu) or _after("Features", cpu) or ""))
    told = {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpu": _after("model name", cpu),
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": [round(each, 2) for each in os.getloadavg()],
        "memory_bytes": _kibibytes("MemTotal", memory),
        "memory_available_bytes": _kibibytes("MemAvailable", memory),
        "swap_bytes": _kibibytes("SwapTotal", memory),
        "group_memory_limit": _read("/sys/fs/cgroup/memory.max").strip(),
        "group_cpu_limit": _read("/sys/fs/cgroup/cpu.max").strip(),
    }
    return {name: value for name, value in told.items() if value is not None and value != ""}


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def _after(name: str, text: str) -> str | None:
    """The first value of this name."""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found is not None else None


def _kibibytes(name: str, text: str) -> int | None:
    value = (_after(name, text) or "").removesuffix(" kB")
    return int(value) << 10 if value.isdecimal() else None
