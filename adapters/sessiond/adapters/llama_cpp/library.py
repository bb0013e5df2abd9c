"""llama.cpp itself: imported once, started once, and its log kept for error messages."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections import deque
from types import ModuleType

_ERROR = 4
_WARN = 3
_CONTINUED = 5

_recent: deque[str] = deque(maxlen=20)


def _keep(level: int, text: bytes | None, _data: object) -> None:
    line = (text or b"").decode("utf-8", "replace").strip()
    if line and level in (_WARN, _ERROR):
        _recent.append(line)
        sys.stderr.write(f"llama.cpp: {line}\n")
        sys.stderr.flush()


@functools.cache
def library() -> ModuleType:
    """The low-level module. The first call loads the shared library; raises ImportError if it is not there."""
    # The package's own __init__ imports the high-level class too, which costs time but cannot be avoided.
    from llama_cpp import llama_cpp

    callback = llama_cpp.llama_log_callback(_keep)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    _callbacks.append(callback)
    llama_cpp.llama_backend_init()
    return llama_cpp


_callbacks: list[object] = []
"""ctypes does not keep a callback alive that C still holds."""


def forget_log() -> None:
    """Start afresh: what `last_words` says belongs to what comes now."""
    _recent.clear()


def last_words() -> str:
    """What llama.cpp last complained of, in one line."""
    return "; ".join(list(_recent)[-3:])
