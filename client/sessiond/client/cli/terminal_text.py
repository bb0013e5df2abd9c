"""Text from files and models, made harmless for a terminal."""

from __future__ import annotations

import re

# Control characters but newline and tab: they move the cursor, change the title, answer for the user. And the marks
# that turn the direction of text, with which a line can show something else than it says.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without what a terminal would obey. May be used on each piece of a stream alone."""
    return _UNSAFE.sub("", text)


def clean_line(text: str) -> str:
    """The same for text that has to stay on its line."""
    return clean(text.replace("\n", " ").replace("\t", " "))
