"""The store of Ollama: `manifests/{host}/{namespace}/{name}/{tag}` names a blob by its digest."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sessiond.daemon.models.found import FoundModel, Surroundings
from sessiond.daemon.models.gguf import MAGIC, NotAModelError, read_head

SOURCE = "ollama"
_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SYSTEM_STORE = Path("/usr/share/ollama/.ollama/models")
_DEFAULT_HOST = "registry.ollama.ai"
_DEFAULT_NAMESPACE = "library"
_MANIFEST_BYTES = 64 * 1024
"""A real one has about a thousand."""
_MOST_MANIFESTS = 5_000
_LEVELS = 4
"""Host, namespace, name, tag."""


def stores(around: Surroundings) -> list[Path]:
    """The user's own store, and that of the system's service."""
    return [around.folder("OLLAMA_MODELS", ".ollama", "models"), _SYSTEM_STORE]


def models(around: Surroundings) -> Iterator[FoundModel]:
    """Names are those that Ollama shows: `{name}:{tag}`, with the namespace and host where they are not its own."""
    for store in stores(around):
        for parts in _manifests(store / "manifests"):
            model = _model(store.absolute(), parts)
            if model is not None:
                yield model


def _manifests(folder: Path) -> Iterator[tuple[str, ...]]:
    """The four parts of each manifest's path, in order."""
    seen = 0
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        if len(parts) == _LEVELS:
            yield parts
            continue
        for name in reversed(_names(folder.joinpath(*parts), folders=len(parts) < _LEVELS - 1)):
            seen += 1
            if seen > _MOST_MANIFESTS:
                break
            waiting.append((*parts, name))


def _names(folder: Path, *, folders: bool) -> list[str]:
    """The names of the folders, or of the files, in a folder. Links to folders are not followed."""
    try:
        with os.scandir(folder) as listing:
            wanted = (item for item in listing if item.is_dir(follow_symlinks=False) is folders)
            return sorted(item.name for item in wanted if item.name.isprintable())
    except OSError:
        return []


def _model(store: Path, parts: tuple[str, ...]) -> FoundModel | None:
    digest = _model_digest(_read(store.joinpath("manifests", *parts)))
    if digest is None:
        return None
    blob = store / "blobs" / f"sha256-{digest}"
    try:
        head = read_head(str(blob))
    except NotAModelError:
        return None
    if not head.start.startswith(MAGIC):
        return None
    return FoundModel(_shown_name(*parts), str(blob), SOURCE, head.size_bytes)


def _shown_name(host: str, namespace: str, name: str, tag: str) -> str:
    shown = f"{name}:{tag}"
    if (host, namespace) != (_DEFAULT_HOST, _DEFAULT_NAMESPACE):
        shown = f"{namespace}/{shown}"
    return shown if host == _DEFAULT_HOST else f"{host}/{shown}"


def _read(path: Path) -> bytes:
    """A manifest's bytes; none if it is too large, or not a file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        status = os.fstat(file)
        sound = stat.S_ISREG(status.st_mode) and status.st_size <= _MANIFEST_BYTES
        return os.read(file, _MANIFEST_BYTES) if sound else b""
    except OSError:
        return b""
    finally:
        os.close(file)


def _model_digest(manifest: bytes) -> str | None:
    """The hex digest of the layer that is the model. Anything but a plain digest is refused: it becomes a path."""
    try:
        layers = _field(json.loads(manifest), "layers")
    except (ValueError, RecursionError):
        return None
    for layer in cast("list[object]", layers) if isinstance(layers, list) else ():
        digest = _field(layer, "digest")
        if _field(layer, "mediaType") == _MODEL_LAYER and isinstance(digest, str):
            plain = _DIGEST.fullmatch(digest)
            return plain[1] if plain else None
    return None


def _field(value: object, name: str) -> object:
    return cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None
