"""Finding GGUF files beneath a folder, within bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.models.found import FoundModel
from sessiond.daemon.models.gguf import MAGIC, SPLIT, NotAModelError, read_head

MAX_ENTRIES = 20_000
"""Names looked at beneath one folder."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file, with what its split siblings weigh."""

    path: Path
    size_bytes: int

    @property
    def stem(self) -> str:
        """Its name without the suffix and without the number of its part."""
        name = self.path.name
        return SPLIT.sub("", name) if SPLIT.search(name) else name[: -len(".gguf")]

    def found(self, name: str, source: str) -> FoundModel:
        return FoundModel(name, str(self.path), source, self.size_bytes)


def gguf_files(folder: Path, *, depth: int) -> Iterator[ModelFile]:
    """Models in `folder` and, down to `depth`, in the folders beneath it, in a fixed order.

    Links to folders are not followed, so there are no loops; links to files are. Whatever cannot be read is
    passed over. Of a split model only the first part is given.
    """
    budget = _Budget(MAX_ENTRIES)
    waiting = [(folder.absolute(), depth)]
    while waiting and budget.left > 0:
        here, below = waiting.pop()
        folders, files = _list(here, budget)
        for parts in _grouped(files):
            model = _model(here, parts)
            if model is not None:
                yield model
        if below > 0:
            waiting.extend((here / name, below - 1) for name in reversed(folders))


@dataclass(slots=True)
class _Budget:
    left: int


def _list(folder: Path, budget: _Budget) -> tuple[list[str], list[str]]:
    """The names of the folders and of the GGUF files in a folder, each in order."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as listing:
            for item in listing:
                budget.left -= 1
                if budget.left < 0:
                    break
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.name)
                elif item.name.lower().endswith(".gguf"):
                    files.append(item.name)
    except (OSError, ValueError):
        pass
    return sorted(folders), sorted(files)


def _grouped(names: list[str]) -> list[list[str]]:
    """Each model's files: one, or the parts of a split one in order."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        split = SPLIT.search(name)
        key = (name[: split.start()], split["parts"]) if split else (name, "")
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _model(folder: Path, parts: list[str]) -> ModelFile | None:
    """None if the first file is no GGUF file, not the first part, or of a kind that is no model."""
    first = folder / parts[0]
    split = SPLIT.search(first.name)
    # A projector stands beside the model it belongs to, and is none itself.
    if first.name.lower().startswith("mmproj") or (split and int(split["part"]) != 1):
        return None
    # Paths are sent to clients, and so must be UTF-8.
    size = _size(first) if str(first).isprintable() else None
    if size is None:
        return None
    return ModelFile(first, size + sum(_size(folder / part) or 0 for part in parts[1:]))


def _size(path: Path) -> int | None:
    """Bytes of a GGUF file; None if it is none."""
    try:
        head = read_head(str(path))
    except NotAModelError:
        return None
    return head.size_bytes if head.start.startswith(MAGIC) else None
