"""A model file that was found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model, whatever number of files it is split into."""

    name: str
    """What a client may say instead of the path; not always unique."""
    absolute_path: str
    """The file to load; of a split model its first part."""
    source: str
    """"embedded", "huggingface", "lmstudio", "ollama", "llama.cpp" or "configured"."""
    size_bytes: int
    """Of all its parts."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where programs of this user keep their files."""

    env: Mapping[str, str]
    home: Path

    def folder(self, variable: str, *default: str) -> Path:
        """The folder that an environment variable names; by default one beneath the home folder."""
        named = self.env.get(variable, "")
        return Path(expanded(named)) if named else self.home.joinpath(*default)


def expanded(path: str) -> str:
    """With `~` replaced, where it can be. `Path.expanduser` raises where there is no home."""
    return os.path.expanduser(path)  # noqa: PTH111 - for the reason above
