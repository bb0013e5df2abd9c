"""Text of a file, or its name, as part of one line of the map."""

from __future__ import annotations


def one_line(text: str, most: int) -> str:
    """At most `most` characters: white space is one blank, and what cannot be printed is left out."""
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(char for char in line if char.isprintable())
    return line if len(line) <= most else line[: most - 1] + "…"
