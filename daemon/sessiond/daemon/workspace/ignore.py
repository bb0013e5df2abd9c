"""Ignore files: `.gitignore` and those with the same syntax."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sessiond.daemon.workspace.segment import shown
from sessiond.daemon.workspace.wildmatch import compile_wildcards

_MOST_TOLD = 100
"""Bytes of a rule that are shown."""

_SPECIAL = re.compile(rb"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an ignore file says about a path."""

    ignored: bool
    rule: str
    """The file and the line that decided it, such as `src/.gitignore:3: *.log`; a long line is cut."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line. Its pattern is `literal` followed by what `rest` matches."""

    line: int
    source: bytes
    negated: bool
    folders_only: bool
    whole_path: bool
    """Whether it is compared with the path from the ignore file's folder, not with the last name alone."""
    literal: bytes
    rest: re.Pattern[bytes] | None
    """None if nothing may follow."""
    suffix: bytes | None
    """Set for `*` and a literal: the commonest wildcard needs no expression."""

    def matches(self, name: bytes, below: bytes, *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        text = below if self.whole_path else name
        if self.suffix is not None:
            return text.endswith(self.suffix)
        if self.rest is None:
            return text == self.literal
        return text.startswith(self.literal) and self.rest.fullmatch(text, len(self.literal)) is not None


class IgnoreFile:
    """The rules of one ignore file. Of those that match a path, the last one counts."""

    def __init__(self, path: bytes, content: bytes, base: bytes | None = None) -> None:
        """`path` names the file; its rules hold below `base`, by default the folder it stands in."""
        self.path = path
        self.base = path.rpartition(b"/")[0] if base is None else base
        self.rules = _parse(content)
        self._last_first = self.rules[::-1]

    def verdict(self, path: bytes, *, is_folder: bool) -> Verdict | None:
        """None if no rule matches. `path` is relative to the root, and lies below `base`."""
        name = path.rpartition(b"/")[2]
        below = path[len(self.base) + 1 :] if self.base else path
        for rule in self._last_first:
            if rule.matches(name, below, is_folder=is_folder):
                source = shown(rule.source[:_MOST_TOLD])
                return Verdict(not rule.negated, f"{shown(self.path)}:{rule.line}: {source}")
        return None


def first_verdict(files: Iterable[IgnoreFile], path: bytes, *, is_folder: bool) -> Verdict | None:
    """What the first file that has an opinion says: the caller puts the strongest one first."""
    verdicts = (file.verdict(path, is_folder=is_folder) for file in files)
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _parse(content: bytes) -> Sequence[_Rule]:
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rules = (_rule(number, line) for number, line in enumerate(lines, 1))
    return [rule for rule in rules if rule is not None]


def _rule(number: int, line: bytes) -> _Rule | None:
    """None for an empty line, a comment, and a pattern that can match nothing."""
    if line.startswith(b"#"):
        return None
    source = _without_trailing_spaces(line.removesuffix(b"\r").partition(b"\0")[0])
    pattern = source.removeprefix(b"!")
    negated = pattern != source
    stripped = pattern.removesuffix(b"/")
    folders_only = stripped != pattern
    whole_path = b"/" in stripped
    if not stripped:
        return None
    pattern = stripped.removeprefix(b"/")
    special = _SPECIAL.search(pattern)
    # git too cuts the literal start off before it looks at wildcards, and so `a**/b` matches `ab`.
    literal = pattern[: special.start()] if special else pattern
    rest = compile_wildcards(pattern[len(literal) :]) if special else None
    if special and rest is None:
        return None
    is_suffix = not whole_path and pattern.startswith(b"*") and not _SPECIAL.search(pattern, 1)
    suffix = pattern[1:] if is_suffix else None
    return _Rule(number, source, negated, folders_only, whole_path, literal, rest, suffix)


def _without_trailing_spaces(line: bytes) -> bytes:
    """Spaces at the end count only behind a backslash."""
    end, at = 0, 0
    while at < len(line):
        if line[at] == 0x5C:
            at += 1
            if at == len(line):
                return line
            end = at + 1
        elif line[at] != 0x20:
            end = at + 1
        at += 1
    return line[:end]
