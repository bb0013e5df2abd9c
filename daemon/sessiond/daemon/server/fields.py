"""Checks of request fields: every violation is collected and named, so that a client learns of all at once."""

from __future__ import annotations

import math
import re
from pathlib import Path

from sessiond.daemon.workspace.beneath import open_root
from sessiond.v1.errors import FieldViolation, InvalidInput

MAX_TEXT = 32 << 20
"""Bytes of UTF-8 in one field. More than any window holds, and a bound on what one message can make us do."""
MAX_NAME = 256
MAX_PATH = 4096
MAX_COUNT = 1 << 24
"""No count of tokens, threads or layers is larger."""
SESSION_NAME = re.compile(r"sessions/[A-Za-z0-9_-]{1,64}")


class Fields:
    """Collects violations; `done` raises InvalidInput if there are any."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def refuse(self, field: str, description: str) -> None:
        """Note a violation."""
        self._violations.append(FieldViolation(field, description))

    def done(self) -> None:
        """Raises InvalidInput, all violations named."""
        if self._violations:
            raise InvalidInput(self._violations[:64])

    def text(self, field: str, value: str, most: int = MAX_TEXT) -> str:
        """A text without NUL, at most `most` bytes."""
        if "\0" in value:
            self.refuse(field, "has a NUL byte")
        if len(value) > most or len(value.encode()) > most:
            self.refuse(field, f"is longer than {most} bytes")
        return value

    def count(self, field: str, value: int, most: int = MAX_COUNT, least: int = 0) -> int:
        """A whole number from `least` to `most`."""
        if not least <= value <= most:
            self.refuse(field, f"{value} is not between {least} and {most}")
        return value

    def number(self, field: str, value: float, least: float, most: float) -> float:
        """A finite number from `least` to `most`."""
        if not math.isfinite(value) or not least <= value <= most:
            self.refuse(field, f"{value} is not between {least} and {most}")
        return value

    def name(self, value: str) -> str:
        """A session's name."""
        if not SESSION_NAME.fullmatch(value):
            self.refuse("name", "is not of the form sessions/{id}")
        return value

    def absolute(self, field: str, value: str) -> Path | None:
        """An absolute path, or nothing."""
        self.text(field, value, MAX_PATH)
        if not value or "\0" in value:
            return None
        if not value.startswith("/"):
            self.refuse(field, "is not an absolute path")
        return Path(value)


def folder(root: Path) -> Path:
    """The workspace at an absolute path, without links in that: two spellings of one folder are one workspace.

    Raises InvalidInput on `workspace_root` if there is no folder, and PermissionDenied if it may not be read.
    """
    with open_root(root):
        return root.resolve()
