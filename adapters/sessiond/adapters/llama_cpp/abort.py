"""The flag that stops a running `llama_decode`.

llama.cpp polls its abort callback for every graph node. A Python callback would take the GIL each time; so the
callback is C's own `strlen` over a one-byte string: 0 for "go on", 1 for "stop", and no GIL.
"""

from __future__ import annotations

import ctypes
from typing import Any

from sessiond.adapters.llama_cpp.library import library


class AbortFlag:
    """One byte that any thread may set."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.callback = ctypes.cast(ctypes.CDLL(None).strlen, library().ggml_abort_callback)
        self.data = ctypes.c_void_p(ctypes.addressof(self._text))

    @property
    def is_set(self) -> bool:
        """Whether something should stop."""
        return self._text[0] != b"\0"

    def set(self) -> None:
        """Stop soon."""
        self._text[0] = b"!"

    def clear(self) -> None:
        """Go on."""
        self._text[0] = b"\0"


def listen(native: Any, flag: AbortFlag | None) -> None:
    """Let decodes of a native context stop for this flag, or for none."""
    low = library()
    if flag is None:
        low.llama_set_abort_callback(native, low.ggml_abort_callback(), None)
    else:
        low.llama_set_abort_callback(native, flag.callback, flag.data)
