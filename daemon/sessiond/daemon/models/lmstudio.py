"""The folders of LM Studio: `{publisher}/{repository}/{file}.gguf`."""

from __future__ import annotations

from collections.abc import Iterator

from sessiond.daemon.models.found import FoundModel, Surroundings
from sessiond.daemon.models.scan import gguf_files

SOURCE = "lmstudio"
_PLACES = ((".lmstudio", "models"), (".cache", "lm-studio", "models"))


def models(around: Surroundings) -> Iterator[FoundModel]:
    """Names are `{publisher}/{repository}/{file}` without the suffix."""
    for place in _PLACES:
        folder = around.home.joinpath(*place).absolute()
        for file in gguf_files(folder, depth=3):
            parent = file.path.parent.relative_to(folder).as_posix()
            yield file.found(file.stem if parent == "." else f"{parent}/{file.stem}", SOURCE)
