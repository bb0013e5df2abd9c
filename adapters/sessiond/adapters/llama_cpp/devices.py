"""The devices that llama.cpp sees, and the memory of the GPUs. llama-cpp-python does not bind these functions of ggml."""

from __future__ import annotations

import ctypes
from typing import Any

from sessiond.adapters.llama_cpp.library import library

_GPU = 1
"""`GGML_BACKEND_DEVICE_TYPE_GPU`: one with memory of its own. An integrated one uses the machine's."""


def free_gpu_memory(only: int | None = None) -> int | None:
    """Bytes that are free on all GPUs together, or on the one of this number; None if there is none."""
    found = [device for device in _devices() if _bound("type", ctypes.c_int, ctypes.c_void_p)(device) == _GPU]
    if only is not None:
        found = found[only : only + 1]
    return sum(map(_free, found)) if found else None


def device_names() -> list[str]:
    """All of them, as "CPU (AMD EPYC)". A GPU may do some of the work even where no layer is put there."""
    return [f"{_text('name', device)} ({_text('description', device).strip()})" for device in _devices()]


def _text(what: str, device: int) -> str:
    found: bytes | None = _bound(what, ctypes.c_char_p, ctypes.c_void_p)(device)
    return (found or b"").decode("utf-8", "replace")


def _devices() -> list[int]:
    count = _bound("count", ctypes.c_size_t)()
    return [_bound("get", ctypes.c_void_p, ctypes.c_size_t)(index) for index in range(count)]


def _free(device: int) -> int:
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    ask = _bound("memory", None, *([ctypes.c_void_p] * 3))
    ask(device, ctypes.byref(free), ctypes.byref(total))
    return free.value


def _bound(name: str, answer: Any, *arguments: Any) -> Any:
    """`ggml_backend_dev_{name}` of the library that llama.cpp itself uses."""

    def described() -> None:  # the decorator takes the function that it stands for, for its signature
        ...

    return library().ctypes_function(f"ggml_backend_dev_{name}", list(arguments), answer)(described)
