"""A look at the head of a model file, before llama.cpp is given it.

llama.cpp reads files that come from anywhere, in native code. What can be refused by a look is refused here.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path

from sessiond.adapters.base import ModelLoadError

MAGIC = b"GGUF"
_HEAD = struct.Struct("<4sIQQ")
_VERSIONS = (2, 3)
_MOST = 1 << 24
"""More tensors or keys than any model has."""


def check_model_file(path: str) -> None:
    """Raises ModelLoadError, with a sentence, for what cannot be a model."""
    try:
        with Path(path).open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelLoadError(f"not a file: {path}")
            head = file.read(_HEAD.size)
    except IsADirectoryError:
        raise ModelLoadError(f"a folder, not a model file: {path}") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"cannot be read: {path!r}: {error}") from error
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise ModelLoadError(f"not a GGUF model file: {path}")
    _, version, tensors, keys = _HEAD.unpack(head)
    # The first part of a split model may have no tensors.
    if version not in _VERSIONS or not 0 <= tensors < _MOST or not 0 < keys < _MOST:
        raise ModelLoadError(f"the GGUF header makes no sense: {path}")


def file_digest(path: str) -> str:
    """SHA-256 of a file, as lower-case hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
