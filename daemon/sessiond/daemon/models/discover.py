"""All model files that stand in the usual places."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sessiond.daemon.models import configured, embedded, huggingface, llama_cache, lmstudio, ollama
from sessiond.daemon.models.found import FoundModel, Surroundings, expanded


def discover(
    folders: Sequence[Path] = (), env: Mapping[str, str] | None = None, home: Path | None = None
) -> list[FoundModel]:
    """Reads the disk; raises nothing: a place that cannot be read has no models.

    `folders` are searched as well. `env` and `home` are this process's own by default. A file that stands in
    several places is given once, as the first of them has it.
    """
    around = Surroundings(os.environ if env is None else env, Path(expanded("~")) if home is None else home)
    sources: tuple[Callable[[], Iterable[FoundModel]], ...] = (
        embedded.models,
        lambda: configured.models(folders),
        lambda: huggingface.models(around),
        lambda: lmstudio.models(around),
        lambda: ollama.models(around),
        lambda: llama_cache.models(around),
    )
    seen: set[str] = set()
    found: list[FoundModel] = []
    for source in sources:
        for model in source():
            real = os.path.realpath(model.absolute_path)
            if real not in seen:
                seen.add(real)
                found.append(model)
    return found
