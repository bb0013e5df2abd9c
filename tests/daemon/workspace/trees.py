"""Folders on the disk, and what an assembly made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sessiond.daemon.workspace.assemble import Assembly

PLENTY = 1_000_000
"""Tokens."""


def count(texts: Sequence[str]) -> list[int]:
    """Three characters a token."""
    return [-(-len(text) // 3) for text in texts]


def write(root: Path, files: Mapping[str, str]) -> None:
    """Writes each file, by its path."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode())


def paths(assembly: Assembly) -> list[str]:
    """What went in, in its order; the map has no path."""
    return [segment.path for segment in assembly.segments]


def reasons(assembly: Assembly) -> dict[str, str]:
    """What was left out; each path once."""
    told = {entry.path: entry.reason for entry in assembly.left_out}
    assert len(told) == len(assembly.left_out)
    return told
