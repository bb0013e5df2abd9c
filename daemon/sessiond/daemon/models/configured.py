"""Folders that the daemon's settings name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sessiond.daemon.models.found import FoundModel, expanded
from sessiond.daemon.models.scan import gguf_files

SOURCE = "configured"
_DEPTH = 8


def models(folders: Sequence[Path]) -> Iterator[FoundModel]:
    """Names are those of the files, without the suffix."""
    for folder in folders:
        for file in gguf_files(Path(expanded(str(folder))), depth=_DEPTH):
            yield file.found(file.stem, SOURCE)
