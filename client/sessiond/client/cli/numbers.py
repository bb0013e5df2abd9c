"""Figures as people read them."""

from __future__ import annotations

import time

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def count(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}"


def size(number: float) -> str:
    """A number of bytes in the unit that leaves it below 1024."""
    for unit in _UNITS[:-1]:
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"


def duration(milliseconds: float) -> str:
    """A duration in milliseconds, seconds or minutes, as its length asks for."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def clock(time_ms: float) -> str:
    """The local time of day of a time in milliseconds since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(time_ms / 1000))


def ago(time_ms: float) -> str:
    """How long ago a time in milliseconds since 1970 was; "never" for 0."""
    if not time_ms:
        return "never"
    seconds = max(0, int(time.time() - time_ms / 1000))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
