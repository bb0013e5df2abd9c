"""The folder into which llama.cpp's own programs download."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sessiond.daemon.models.found import FoundModel, Surroundings
from sessiond.daemon.models.scan import gguf_files

SOURCE = "llama.cpp"


def cache_folder(around: Surroundings) -> Path:
    """As llama.cpp finds it."""
    if around.env.get("LLAMA_CACHE"):
        return around.folder("LLAMA_CACHE")
    if sys.platform == "darwin":
        return around.home / "Library" / "Caches" / SOURCE
    return around.folder("XDG_CACHE_HOME", ".cache") / SOURCE


def models(around: Surroundings) -> Iterator[FoundModel]:
    """Names are those of the files, without the suffix."""
    for file in gguf_files(cache_folder(around), depth=0):
        yield file.found(file.stem, SOURCE)
