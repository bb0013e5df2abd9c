"""The options in a model's name: `scripted-kv:num_ctx=512,step_ms=2,die=SIGSEGV@first-decode`.

A flag is set by its name alone or by `=1`, and cleared by `=0`. Both kinds know all options but those said to
belong to one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from sessiond.adapters.base import ModelLoadError
from sessiond.adapters.scripted.script import Death

_KV_ONLY = frozenset({"max_sequences", "no_truncate", "num_cells"})
_PROMPT_ONLY = frozenset({"silent"})
_NOT_IN_DIGEST = frozenset({"die", "load_ms", "max_sequences", "num_cells", "silent", "step_ms"})


@dataclass(frozen=True, slots=True)
class Options:
    """What a model's name asks for; the field names are the options' names."""

    num_ctx: int = 4096
    """Window of a context that leaves the choice open, and the one that the model was trained for."""
    num_cells: int = 0
    """Cells of a context that leaves the choice open, if they are more than its window; KV only."""
    step_ms: float = 0.0
    """Duration of each micro-batch in milliseconds; an abort cuts it short."""
    load_ms: float = 0.0
    """Duration of loading in milliseconds."""
    die: Death | None = None
    """`SIGNAL@load`, `SIGNAL@restore` (of KV), `SIGNAL@first-decode` (only with extra buffers on) or `SIGNAL@decode:N` (the
    Nth).
    """
    max_sequences: int = 16
    """Sequences of a context; KV only."""
    no_truncate: bool = False
    """Refuse to cut a sequence, as recurrent models do; KV only."""
    silent: bool = False
    """Do not say how many tokens the cache had; PROMPT only."""
    bos: bool = False
    """The model was trained to see an opening token."""
    fim: bool = False
    """The model can fill in the middle."""
    embed: bool = False
    """The model makes vectors of texts."""
    weights: str = ""
    """Any text: another one is another model, with other answers."""

    def digest(self) -> str:
        """SHA-256 of the options that make the model, not of those that say how it runs."""
        made_of = {name: value for name, value in asdict(self).items() if name not in _NOT_IN_DIGEST}
        return hashlib.sha256(repr(sorted(made_of.items())).encode()).hexdigest()


def parse(text: str, *, exposes_kv: bool) -> Options:
    """The options in the part of a name behind the colon. Raises ModelLoadError for one it cannot read."""
    known = {field.name for field in fields(Options)} - (_PROMPT_ONLY if exposes_kv else _KV_ONLY)
    found: dict[str, object] = {}
    for item in text.split(",") if text else ():
        name, equals, value = item.partition("=")
        if name not in known:
            raise ModelLoadError(f"scripted: unknown option {name!r}; known are {', '.join(sorted(known))}")
        if name in found:
            raise ModelLoadError(f"scripted: option {name} is given twice")
        try:
            found[name] = _READERS[name](value if equals else None)
        except ValueError as error:
            raise ModelLoadError(f"scripted: option {name}: {error}") from error
    return Options(**found)  # type: ignore[arg-type]  # each reader returns its field's type


def _count(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError("a whole number above 0 is needed")
    return int(value)


def _milliseconds(value: str | None) -> float:
    number = float(value) if value else -1.0
    if not 0 <= number < 3_600_000:  # also false for NaN
        raise ValueError("a number of milliseconds from 0 to an hour is needed")
    return number


def _flag(value: str | None) -> bool:
    if value not in {None, "0", "1"}:
        raise ValueError("0 or 1 is needed")
    return value != "0"


def _text(value: str | None) -> str:
    if value is None:
        raise ValueError("a text is needed")
    return value


def _death(value: str | None) -> Death:
    return Death.parse(value or "")


_READERS: dict[str, Callable[[str | None], object]] = {
    "num_ctx": _count,
    "num_cells": _count,
    "step_ms": _milliseconds,
    "load_ms": _milliseconds,
    "die": _death,
    "max_sequences": _count,
    "no_truncate": _flag,
    "silent": _flag,
    "bos": _flag,
    "fim": _flag,
    "embed": _flag,
    "weights": _text,
}
