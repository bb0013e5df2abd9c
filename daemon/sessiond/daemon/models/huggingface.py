"""The cache of the Hugging Face hub: `models--{org}--{name}/snapshots/{revision}/…`, links into `blobs/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sessiond.daemon.models.found import FoundModel, Surroundings
from sessiond.daemon.models.scan import gguf_files

SOURCE = "huggingface"
_PREFIX = "models--"
_MOST_REPOSITORIES = 2_000
_MOST_REVISIONS = 50
_DEPTH = 3
"""A repository may keep each quantization in a folder of its own."""


def cache_folder(around: Surroundings) -> Path:
    """As `huggingface_hub` finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if around.env.get(variable):
            return around.folder(variable)
    if around.env.get("HF_HOME"):
        return around.folder("HF_HOME") / "hub"
    return around.folder("XDG_CACHE_HOME", ".cache") / "huggingface" / "hub"


def models(around: Surroundings) -> Iterator[FoundModel]:
    """Names are `{org}/{name}/{file}` without the suffix; of several revisions the current one counts."""
    cache = cache_folder(around)
    inside = os.path.realpath(cache) + os.sep
    for repository in _names(cache)[:_MOST_REPOSITORIES]:
        if repository.startswith(_PREFIX):
            name = repository.removeprefix(_PREFIX).replace("--", "/")
            yield from _repository(cache / repository, name, inside)


def _repository(folder: Path, name: str, inside: str) -> Iterator[FoundModel]:
    seen: set[str] = set()
    for revision in _revisions(folder):
        for file in gguf_files(folder / "snapshots" / revision, depth=_DEPTH):
            full_name = f"{name}/{file.stem}"
            leads_inside = os.path.realpath(file.path).startswith(inside)
            if leads_inside and full_name not in seen:
                seen.add(full_name)
                yield file.found(full_name, SOURCE)


def _revisions(folder: Path) -> list[str]:
    """The revision that `main` stands for, then the others by name."""
    revisions = _names(folder / "snapshots")[:_MOST_REVISIONS]
    try:
        with (folder / "refs" / "main").open("rb") as file:
            main = file.read(100).decode("ascii", "replace").strip()
    except OSError:
        main = ""
    return sorted(revisions, key=lambda revision: (revision != main, revision))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError:
        return []
