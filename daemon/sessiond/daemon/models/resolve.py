"""From what a client calls a model to the file, or to the word that an adapter understands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from sessiond.daemon.models.found import FoundModel
from sessiond.daemon.models.gguf import NotAModelError, check_model_file, told
from sessiond.v1.errors import InvalidInput, invalid

_FIELD = "model"
_MOST_CHARACTERS = 4096
_MOST_TOLD = 8
"""Candidates named in an error."""


def resolve(
    model: str, found: Sequence[FoundModel], default: str, schemes: AbstractSet[str] = frozenset()
) -> str:
    """The absolute path of the model file that `model` means.

    Empty means `default`, which is returned as it is; so is `{scheme}:…` for one of the `schemes`. A path of a
    file comes before a name of `found`; a name may be shortened at either end as long as it means one file.

    Raises InvalidInput on `model`: nothing or several things match, or the file cannot be a model.
    """
    if not model:
        return default
    if "\0" in model or len(model) > _MOST_CHARACTERS:
        raise invalid(_FIELD, f"a name or path has no zero byte and at most {_MOST_CHARACTERS:,} characters")
    if model.partition(":")[0] in schemes and ":" in model:
        return model
    path = _as_path(model) or _as_name(model, found)
    try:
        check_model_file(path)
    except NotAModelError as error:
        raise invalid(_FIELD, str(error)) from error
    return path


def _as_path(model: str) -> str | None:
    """The absolute path, if `model` is one by its looks or because a file stands there."""
    looks_like_one = model.startswith(("/", "./", "../")) or model in {".", ".."}
    try:
        # Links stay: the parts of a split model stand beside the link, not beside its target.
        path = os.path.abspath(model)  # noqa: PTH100
    except OSError:
        return None  # the working folder is gone
    stands_there = os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112 - raises for nothing
    return path if looks_like_one or stands_there else None


def _as_name(model: str, found: Sequence[FoundModel]) -> str:
    """The path of the one model that is meant: the exact name if there is one, otherwise a part of it."""
    wanted = model.casefold()
    for meant in (
        [candidate for candidate in found if candidate.name == model],
        [candidate for candidate in found if candidate.name.casefold() == wanted],
        [candidate for candidate in found if _matches(wanted, candidate.name.casefold())],
    ):
        paths = {candidate.absolute_path for candidate in meant}
        if len(paths) == 1:
            return paths.pop()
        if paths:
            raise _ambiguous(model, meant)
    if os.path.isdir(model):  # noqa: PTH112 - raises for nothing
        raise invalid(_FIELD, f"a folder, not a model file: {told(model)}")
    raise invalid(_FIELD, f"no such file, and no model of this name was found: {told(model)}")


def _matches(wanted: str, name: str) -> bool:
    """Whether the name, or what stands behind its last slash, begins or ends so."""
    last = name.rpartition("/")[2]
    return name.startswith(wanted) or last.startswith(wanted) or name.endswith(wanted)


def _ambiguous(model: str, meant: Sequence[FoundModel]) -> InvalidInput:
    all_of_them = sorted(meant, key=lambda candidate: (candidate.name, candidate.absolute_path))
    named = [
        f"{told(each.name)} ({each.source}: {told(each.absolute_path)})" for each in all_of_them[:_MOST_TOLD]
    ]
    more = f", and {len(meant) - _MOST_TOLD} more" if len(meant) > _MOST_TOLD else ""
    return invalid(_FIELD, f"{told(model)} may mean any of: {', '.join(named)}{more}")
