"""What the machine has to give: the tightest of its own memory and the limits of the control groups that this process is in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory as the kernel tells of it in files: `proc` and `groups` (version 2) are where these stand."""

    proc: Path = Path("/proc")
    groups: Path = Path("/sys/fs/cgroup")

    def available(self) -> int:
        """Bytes that could be taken now without pressing anybody else out."""
        own = _fields(self.proc / "meminfo").get("MemAvailable")
        left = own << 10 if own is not None else int(psutil.virtual_memory().available)
        return max(0, min(left, *(_left_of(group) for group in self._groups())))

    def total(self) -> int:
        """Bytes that there are."""
        limits = (_number(group / "memory.max") for group in self._groups())
        return min(int(psutil.virtual_memory().total), *limits)

    def _groups(self) -> Iterator[Path]:
        """The group of this process and all above it: each may be limited. At least the topmost one."""
        yield self.groups
        found = self.groups
        for part in _own_group(self.proc / "self/cgroup"):
            found /= part
            yield found


def cores() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """As `Machine.available`, of this one."""
    return Machine().available()


def total_memory() -> int:
    """As `Machine.total`, of this one."""
    return Machine().total()


def _own_group(file: Path) -> list[str]:
    """The parts of the path to this process's group; none where it is not told, or leads out of what can be seen."""
    lines = _text(file).splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
    parts = [part for part in path.split("/") if part]
    return [] if ".." in parts else parts


def _left_of(group: Path) -> int:
    # Above `memory.high` the kernel does not kill, and slows everything down.
    limit = min(_number(group / "memory.max"), _number(group / "memory.high"))
    if limit == _NO_LIMIT:
        return limit
    # Pages of files that nobody used lately are given up before anything else.
    return (
        limit - _number(group / "memory.current", 0) + _fields(group / "memory.stat").get("inactive_file", 0)
    )


def _number(file: Path, otherwise: int = _NO_LIMIT) -> int:
    text = _text(file).strip()
    return int(text) if text.isdigit() else otherwise


def _fields(file: Path) -> dict[str, int]:
    """Lines of a name, a number, and perhaps a unit."""
    told = (line.replace(":", " ").split() for line in _text(file).splitlines())
    return {each[0]: int(each[1]) for each in told if len(each) > 1 and each[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
