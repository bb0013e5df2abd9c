"""Which adapters are installed. They register themselves under the entry point group `sessiond.adapters`."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

from sessiond.adapters.base import Adapter

GROUP = "sessiond.adapters"


@functools.cache
def adapters() -> dict[str, Adapter]:
    """All installed adapters, by the name of their entry point."""
    return {point.name: point.load() for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def adapter_for(model: str) -> str | None:
    """The name of the first adapter that takes this model."""
    return next((name for name, adapter in adapters().items() if adapter.accepts(model)), None)


def schemes() -> frozenset[str]:
    """Names that begin so are an adapter's own, not files: "scripted-kv" for "scripted-kv:…"."""
    return frozenset(name for name, adapter in adapters().items() if adapter.accepts(f"{name}:"))
