"""git's wildcards as regular expressions over bytes.

The semantics are those of git's `wildmatch.c` with its path rule: `*`, `?` and brackets never match a slash,
`**` between slashes matches any number of folders, and a malformed pattern matches nothing. git compares bytes,
so `?` is one byte, not one character.

The pattern comes from a file in the workspace, so it must not be able to stall us. What stands between two
stars has a fixed length, and then the first place where it fits is as good as any later one: atomic groups
forbid the search to come back, and the time stays within length of pattern times length of path, squared only
for `**`.
"""

from __future__ import annotations

import re
import string

_SLASH = 0x2F
_BACKSLASH = 0x5C

# git's own idea of the classes: ASCII only, and of the white space just these four.
_CLASSES: dict[bytes, frozenset[int]] = {
    b"alnum": frozenset((string.ascii_letters + string.digits).encode()),
    b"alpha": frozenset(string.ascii_letters.encode()),
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset([*range(0x20), 0x7F]),
    b"digit": frozenset(string.digits.encode()),
    b"graph": frozenset(range(0x21, 0x7F)),
    b"lower": frozenset(string.ascii_lowercase.encode()),
    b"print": frozenset(range(0x20, 0x7F)),
    b"punct": frozenset(string.punctuation.encode()),
    b"space": frozenset(b" \t\n\r"),
    b"upper": frozenset(string.ascii_uppercase.encode()),
    b"xdigit": frozenset(string.hexdigits.encode()),
}


class _MalformedError(Exception):
    """The pattern has an open bracket, an unknown class or a backslash at its end."""


def compile_wildcards(pattern: bytes) -> re.Pattern[bytes] | None:
    """An expression for `fullmatch`; None if the pattern is malformed and so matches nothing."""
    try:
        return re.compile(_Translation(pattern).run(), re.DOTALL)
    except _MalformedError:
        return None


class _Translation:
    """One pass over a pattern."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern
        self.at = 0
        self.runs: list[bytes] = []
        """Finished runs: what stands between two `**`."""
        self.run_start = b""
        """How the current run may be reached: by the `**` in front of it."""
        self.chunks: list[bytes] = []
        """The chunks of the current run: the first as it is, each further one behind a star."""
        self.chunk = b""

    def run(self) -> bytes:
        while self.at < len(self.pattern):
            char = self.pattern[self.at]
            self.at += 1
            if char == ord("*"):
                self._stars()
            elif char == ord("?"):
                self.chunk += b"[^/]"
            elif char == ord("["):
                self.chunk += _any_of(self._bracket())
            elif char == _BACKSLASH:
                self.chunk += re.escape(bytes([self._next()]))
            else:
                self.chunk += re.escape(bytes([char]))
        return b"".join(self.runs) + self.run_start + self._finished_chunks(last=True)

    def _stars(self) -> None:
        first = self.at - 1
        while self.pattern[self.at : self.at + 1] == b"*":
            self.at += 1
        rest = self.pattern[self.at : self.at + 2]
        starts_part = first == 0 or self.pattern[first - 1] == _SLASH
        if self.at - first == 1 or not starts_part or not (not rest or rest[0] == _SLASH or rest == b"\\/"):
            self.chunks.append(self.chunk)
            self.chunk = b""
            return
        self._end_run()
        if rest[:1] == b"/":
            self.at += 1
            self.run_start = rb"(?:.*?/)??"  # `**/` may stand for no folder at all
        else:
            self.run_start = rb".*?" if rest else rb".*"

    def _end_run(self) -> None:
        """The run ends at a slash, so where it starts decides where it ends: its first place is its best."""
        self.runs.append(b"(?>" + self.run_start + self._finished_chunks(last=False) + b")")
        self.chunks, self.chunk = [], b""

    def _finished_chunks(self, *, last: bool) -> bytes:
        parts = [*self.chunks, self.chunk]
        out = parts[0]
        for part in parts[1:-1]:
            out += rb"(?>[^/]*?" + part + rb")"
        if len(parts) > 1:
            # The very last chunk is held by the end of the path, so its star must be free to give way.
            out += rb"[^/]*" + parts[-1] if last else rb"(?>[^/]*?" + parts[-1] + rb")"
        return out

    def _next(self) -> int:
        if self.at >= len(self.pattern):
            raise _MalformedError
        self.at += 1
        return self.pattern[self.at - 1]

    def _bracket(self) -> frozenset[int]:
        """The bytes that a bracket matches; its opening was read."""
        char = self._next()
        negated = char in b"!^"
        if negated:
            char = self._next()
        members: set[int] = set()
        previous: int | None = None
        while True:
            previous = self._member(char, previous, members)
            char = self._next()
            if char == ord("]"):
                break
        members = set(range(256)) - members if negated else members
        return frozenset(members - {_SLASH})

    def _member(self, char: int, previous: int | None, members: set[int]) -> int | None:
        """Takes one member of a bracket; returns what a range behind it would start from, None for nothing."""
        following = self.pattern[self.at : self.at + 1]
        if char == _BACKSLASH:
            char = self._next()
        elif char == ord("-") and previous is not None and following not in {b"", b"]"}:
            char = self._next()
            end = self._next() if char == _BACKSLASH else char
            members.update(range(previous, end + 1))
            return None
        elif char == ord("[") and following == b":":
            close = self.pattern.find(b"]", self.at + 1)
            if close < 0:
                raise _MalformedError
            if close > self.at + 1 and self.pattern[close - 1] == ord(":"):
                members.update(self._class(self.pattern[self.at + 1 : close - 1]))
                self.at = close + 1
                return None
        members.add(char)
        return char

    @staticmethod
    def _class(name: bytes) -> frozenset[int]:
        try:
            return _CLASSES[name]
        except KeyError:
            raise _MalformedError from None


def _any_of(members: frozenset[int]) -> bytes:
    if not members:
        return rb"(?!)"
    return b"[" + b"".join(rb"\x%02x" % member for member in sorted(members)) + b"]"
