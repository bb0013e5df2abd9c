"""The steps in which a person comes from one version of a file, or of many, to the next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher

MOST_LINES = 2_000
"""Of a version that is compared line by line: the time that takes can grow with the square. A longer one is saved
once, as a whole."""

MOST_HUNKS = 50
"""Of one file. What follows them is saved with the last one."""


def stages(old: bytes | None, new: bytes | None) -> list[bytes | None]:
    """What the file holds after each hunk, from the top down; the last is `new`. None is no file."""
    if old == new:
        return []
    if old is None or new is None:
        return [new]
    was, now = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if len(was) > MOST_LINES or len(now) > MOST_LINES:
        return [new]
    found: list[bytes | None] = []
    for tag, _, was_end, _, now_end in SequenceMatcher(None, was, now).get_opcodes():
        if tag != "equal":
            found.append(b"".join(now[:now_end] + was[was_end:]))
    return [*found[:-1][: MOST_HUNKS - 1], new]


def changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """What has to be written to come from one to the other; None is to be deleted. Deletions come first, since a
    folder may come where a file was; then by path.
    """
    gone: dict[str, bytes | None] = dict.fromkeys(sorted(before.keys() - after.keys()))
    return gone | {path: after[path] for path in sorted(after) if before.get(path) != after[path]}


def formatted(content: bytes) -> bytes:
    """As a formatter would leave it that allows no empty line and no space at the end of one."""
    kept = [line.rstrip() for line in content.splitlines() if line.strip()]
    return b"".join(line + b"\n" for line in kept)
