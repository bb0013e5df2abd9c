"""What JSON gave, as what it has to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

Schema: TypeAlias = dict[str, Any]


def as_object(value: object) -> Schema | None:
    """The value, if it is an object."""
    return cast("Schema", value) if isinstance(value, dict) else None


def as_list(value: object) -> Sequence[Any] | None:
    """The value, if it is a list."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else None


def as_names(value: object) -> Sequence[str] | None:
    """The value, if it is a list of texts."""
    found = as_list(value)
    return found if found is not None and all(isinstance(name, str) for name in found) else None
