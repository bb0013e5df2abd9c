"""A look at the head of a GGUF file: enough to tell a model from anything else, without reading it."""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass

MAGIC = b"GGUF"
SPLIT = re.compile(r"-(?P<part>[0-9]{5})-of-(?P<parts>[0-9]{5})\.gguf$", re.IGNORECASE)
"""How the parts of a split model end. The first part is the one to load; it leads to the others."""

_HEAD = struct.Struct("<4sIQQ")
_VERSIONS = (2, 3)
_MOST = 1 << 24
"""More tensors or keys than any model has."""
_KEY_BYTES = 13
"""The least that one key takes: an empty name, a type, a byte."""
_TENSOR_BYTES = 24
"""The least that one tensor's description takes."""

# A pipe must not be waited for. Links are followed: caches are full of them.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


_MOST_TOLD = 300
"""Characters of a path that an error shows: it travels in a header of limited size."""


def told(path: str) -> str:
    """A path or name as an error shows it: quoted, plain ASCII, not too long."""
    text = ascii(path)
    return text if len(text) <= _MOST_TOLD else text[:_MOST_TOLD] + "…"


class NotAModelError(Exception):
    """The file cannot be a model; the message is a sentence for the person who named it."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first bytes of a regular file, and the size of the whole."""

    start: bytes
    size_bytes: int


def read_head(path: str) -> Head:
    """Raises NotAModelError if the path is no regular file that may be read."""
    try:
        file = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise NotAModelError(f"no such file: {told(path)}") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise NotAModelError(f"cannot be read: {told(path)}: {why}") from error
    try:
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            raise NotAModelError(f"a folder, not a model file: {told(path)}")
        if not stat.S_ISREG(status.st_mode):
            raise NotAModelError(f"not a regular file: {told(path)}")
        return Head(os.read(file, _HEAD.size), status.st_size)
    except OSError as error:
        raise NotAModelError(f"cannot be read: {told(path)}: {error.strerror}") from error
    finally:
        os.close(file)


def check_model_file(path: str) -> None:
    """Raises NotAModelError unless the file looks like a whole GGUF model."""
    head = read_head(path)
    if not head.start.startswith(MAGIC):
        raise NotAModelError(f"not a GGUF model file: {told(path)}")
    if len(head.start) < _HEAD.size:
        raise NotAModelError(f"the file ends within its GGUF header: {told(path)}")
    _, version, tensors, keys = _HEAD.unpack(head.start)
    if version not in _VERSIONS:
        raise NotAModelError(f"GGUF version {version} is not supported (2 and 3 are): {told(path)}")
    # The first part of a split model may hold the keys alone.
    least_tensors = 0 if SPLIT.search(path) else 1
    if not least_tensors <= tensors < _MOST or not 0 < keys < _MOST:
        raise NotAModelError(
            f"the GGUF header makes no sense ({tensors:,} tensors, {keys:,} keys): {told(path)}"
        )
    if head.size_bytes < _HEAD.size + keys * _KEY_BYTES + tensors * _TENSOR_BYTES:
        raise NotAModelError(f"the file ends before what its GGUF header promises: {told(path)}")
