"""What a workspace is turned into: segments, and a word on everything that did not become one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """One ordered piece of the prefix."""

    id: str
    """Unique within its assembly, and the same from one assembly to the next."""
    kind: str
    """"instructions", "map", "file", "text" or "frame"."""
    text: str
    path: str = ""
    """Relative to the workspace root; empty if the text comes from no file."""
    stable: bool = True
    """Whether it belongs to the part that is kept hot."""
    cache_class: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A path that was passed over, and why."""

    path: str
    """Relative to the workspace root. Bytes that are no UTF-8 stand as backslash escapes."""
    reason: str
    """One word for programs.

    By where it stands or what it is: "ignored", "link", "outside", "special", "name".
    By its name or content: "secret", "lock_file", "generated", "media", "too_large", "binary".
    By what happened: "unreadable", "vanished", "budget".
    By what was asked: "missing" (named, and not there), "config" (the configuration has a fault).
    """
    detail: str
    """A sentence for people."""


def shown(path: bytes) -> str:
    """A path as text, also if it is no UTF-8."""
    return path.decode("utf-8", "backslashreplace")
