"""What the machine has to give: the tighter of its own memory and the control group's."""

from __future__ import annotations

from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60


def available_memory() -> int:
    """Bytes that could be taken now without pressing anybody else out."""
    return max(0, min(int(psutil.virtual_memory().available), _group_available()))


def total_memory() -> int:
    """Bytes that there are."""
    return min(int(psutil.virtual_memory().total), _number("memory.max"))


def _group_available() -> int:
    limit = _number("memory.max")
    if limit == _NO_LIMIT:
        return limit
    # Pages of files that nobody used lately are given up before anything else.
    return limit - _number("memory.current") + _inactive_file_pages()


def _number(name: str) -> int:
    try:
        text = (_GROUP / name).read_text().strip()
    except OSError:
        return _NO_LIMIT
    return int(text) if text.isdigit() else _NO_LIMIT


def _inactive_file_pages() -> int:
    try:
        lines = (_GROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
