"""Where two texts part, and what of that can be shown: any text is cut, and does nothing to a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXCERPT = 60
"""Characters of a difference that are shown."""

CONTEXT = 16
"""Characters that are shown on each side of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The characters of `text` from `start` to `end`: those in which it differs from another. There may be none."""

    text: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """In characters."""
        return self.end - self.start

    def around(self, context: int = CONTEXT) -> str:
        """The part, shortened, between a little of what stands around it. Lines stay lines."""
        end = min(self.end + context, self.start + EXCERPT + context)
        return printable(self.text[max(0, self.start - context) : end], keep="\n\t")

    def words(self) -> str:
        """The same, as whole words on one line."""
        start, end = self.start, self.end
        while start > max(0, self.start - CONTEXT) and _belongs(self.text[start - 1]):
            start -= 1
        while end < min(len(self.text), self.end + CONTEXT) and _belongs(self.text[end]):
            end += 1
        return one_line(self.text[start:end], EXCERPT)


def parted(was: str, now: str) -> tuple[Part, Part]:
    """Where two texts first differ, in each of them.

    A difference of several lines is told by its first line: there it began, and the rest may be another change.
    """
    start = common_start(was, now)
    ends = _ends(was, now, start)
    if "\n" in was[start : ends[0]] and "\n" in now[start : ends[1]]:
        lines = was[start : was.index("\n", start)], now[start : now.index("\n", start)]
        inside = _ends(*lines, 0)
        ends = start + inside[0], start + inside[1]
    return Part(was, start, ends[0]), Part(now, start, ends[1])


def common_start(a: Sequence[object], b: Sequence[object]) -> int:
    """How many items the two share from the first. They are of one type."""
    # Comparing slices runs in C; halving them looks at each item about twice.
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_end(a: str, b: str, start: int) -> int:
    """How many characters the two share up to the last, none of them before `start`."""
    low, high = 0, min(len(a), len(b)) - start
    while low < high:
        middle = (low + high + 1) // 2
        if a[len(a) - middle : len(a) - low] == b[len(b) - middle : len(b) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def printable(text: str, keep: str = "") -> str:
    """The text with escapes for what is not to be seen or would be obeyed: control characters, marks of direction."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


def one_line(text: str, most: int) -> str:
    """The first `most` characters on one line."""
    return printable(text) if len(text) <= most else f"{printable(text[: most - 1])}…"


def _ends(was: str, now: str, start: int) -> tuple[int, int]:
    same = common_end(was, now, start)
    return len(was) - same, len(now) - same


def _belongs(char: str) -> bool:
    """Whether a difference next to this character is better read with it."""
    return char.isalnum() or char in "_-.:"
