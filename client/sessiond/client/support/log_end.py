"""The end of a daemon's log without anything that could be content: of each line when, how bad, what, and the numbers.

A line is one JSON object, as the daemon writes it where its log is no terminal. All other lines stay out.
"""

from __future__ import annotations

import builtins
import json
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

import sessiond
from sessiond.v1 import errors
from sessiond.v1.errors import invalid

MOST_BYTES = 1 << 20
"""Of the log's end that are read."""
MOST_LINES = 2000

_REASONS = {
    each.reason
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.SessiondError)
}
_SHAPES: dict[str, Callable[[str], object]] = {
    "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z").fullmatch,
    "level": {"debug", "info", "warning", "error", "critical"}.__contains__,
    "event": re.compile(r"[a-z_]{1,24}(?:\.[a-z_]{1,32}){0,2}").fullmatch,
    "method": re.compile(r"(?:Session|Model|Workspace|Function)Service/[A-Z][A-Za-z]{1,30}").fullmatch,
    "session": re.compile(r"sessions/[0-9a-f]{16}").fullmatch,
    "code": {code.name for code in grpc.StatusCode}.__contains__,
    "reason": _REASONS.__contains__,
    "finish": {"stop", "stop_string", "length"}.__contains__,
}
"""Texts that are let in: by their key, those of which we know every value or the exact form."""
_NEEDED = ("timestamp", "level", "event")
_KEY = re.compile(r"[a-z][a-z_]{0,31}")
_FRAME = re.compile(
    r'File "[^"\n]*/sessiond/((?:daemon|client|adapters|v1)(?:/\w{1,40}){1,4}\.py)", line (\d{1,6})'
)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What may be told."""

    records: tuple[dict[str, Any], ...]
    """Oldest first."""
    unreadable: int
    """Lines that are no records of the daemon, and stayed out whole."""


def log_end(path: Path) -> LogEnd:
    """The end of the log at this path. Raises InvalidInput where it is no plain file or cannot be read."""
    lines = _last_lines(path)
    records = [_told(line) for line in lines]
    return LogEnd(tuple(each for each in records if each is not None), records.count(None))


def _last_lines(path: Path) -> list[bytes]:
    try:
        # Without O_NONBLOCK a pipe of that name would be waited for.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(opened, "rb") as file:  # noqa: PTH123 - it is a descriptor, not a path
            told = os.fstat(opened)
            if not stat.S_ISREG(told.st_mode):
                raise invalid("log", "is not a plain file")
            begin = max(0, told.st_size - MOST_BYTES)
            file.seek(begin)
            lines = file.read(MOST_BYTES).splitlines()
    except OSError as error:
        raise invalid("log", f"cannot be read: {error.strerror}") from error
    return lines[1 if begin else 0 :][-MOST_LINES:]  # the first may be the end of a longer one


def _told(line: bytes) -> dict[str, Any] | None:
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(loaded, dict):
        return None
    record = cast("dict[str, Any]", loaded)
    told = {key: value for key, value in record.items() if _may(key, value)}
    if any(key not in told for key in _NEEDED):
        return None
    exception = record.get("exception")
    if isinstance(exception, str):
        told |= _trace(exception)
    left_out = len(record.keys() - told.keys())
    return told | ({"left_out": left_out} if left_out else {})


def _may(key: str, value: object) -> bool:
    if isinstance(value, str):
        fits = _SHAPES.get(key)
        return fits is not None and bool(fits(value))
    number = value is None or isinstance(value, bool | int | float)
    return number and key not in _SHAPES and bool(_KEY.fullmatch(key)) and _is_plain(value)


def _is_plain(value: object) -> bool:
    """Finite, and no longer than a number is: digits can spell anything."""
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) < 1 << 63)


def _trace(exception: str) -> dict[str, Any]:
    """Where in our own code it was raised, and its type where Python or the contract knows that."""
    frames = [f"{place}:{line}" for place, line in _FRAME.findall(exception) if _is_ours(place)]
    kind = exception.strip().rpartition("\n")[2].partition(":")[0].rpartition(".")[2]
    found = getattr(builtins, kind, None) or getattr(errors, kind, None)
    known = isinstance(found, type) and issubclass(found, BaseException)
    return {"raised_at": frames} | ({"raised": kind} if known else {})


def _is_ours(place: str) -> bool:
    return any((Path(folder) / place).is_file() for folder in sessiond.__path__)
