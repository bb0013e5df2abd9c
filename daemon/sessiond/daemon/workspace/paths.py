"""What a path in a workspace looks like. One rule for all who name one: editors, the configuration, the walk."""

from __future__ import annotations

import unicodedata

MAX_PATH_BYTES = 4096


def path_fault(path: str) -> str | None:
    """Why this is no path of a file beneath the root, written as the walk writes it; None if it is one."""
    if not path:
        return "is empty"
    if len(path) > MAX_PATH_BYTES or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in path):
        return "has control characters"
    if path.startswith("/"):
        return "is absolute; it must be relative to the workspace root"
    parts = path.split("/")
    if ".." in parts:
        return "leaves the workspace"
    if "" in parts or "." in parts:
        return 'has an empty part or "."'
    return None
