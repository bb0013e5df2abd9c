"""Rules that schemas share, by name: JSON itself (RFC 8259), and formats of text.

What Python's and others' readers take apart is left out: an exponent has two digits, so that no number is too large for a
double, and no escape is a half of a surrogate pair, so that a text has as many characters as it seems to.
"""

from __future__ import annotations

from typing import Final

from sessiond.adapters.base.grammar import MAX_REPEAT

_DATE = (
    r'[1-9] [0-9]{3} "-" ( ("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
    r' | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]) )'
)
_HOUR = r'([01] [0-9] | "2" [0-3])'

RULES: Final[dict[str, str]] = {
    "ws": r'| " " | "\n" [ \t]{0,20}',
    "plain": r'[^"\\\x00-\x1F]',
    "char": r'plain | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] hex{3} | [dD] [0-7] hex{2}))',
    "hex": "[0-9a-fA-F]",
    "string": r'"\"" char* "\""',
    "digits": r'"0" | [1-9] [0-9]{0,15}',
    "integer": '"-"? digits',
    "number": '"-"? digits ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "object": r'"{" ws (string ":" ws value ws ("," ws string ":" ws value ws)*)? "}"',
    "array": r'"[" ws (value ws ("," ws value ws)*)? "]"',
    "value": "object | array | string | number | boolean | null",
    "date": _DATE,
    "time": rf'{_HOUR} ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [-+] {_HOUR} ":" [0-5] [0-9])',
    "date-time": 'date "T" time',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
}
"""Not all are used by every grammar; those that are not cost nothing."""

FORMATS: Final = ("date", "time", "date-time", "uuid")


def text_of(rule: str) -> str:
    """A text of what the rule allows."""
    return f'"\\"" {rule} "\\""'


def repeated(item: str, least: int, most: int | None) -> str:
    """An item so often. More than a grammar can count is not asked for, which is allowed too."""
    if most is None:
        return f"{item}{{{least},}}" if least else f"{item}*"
    return f"{item}{{{least},{min(most, MAX_REPEAT)}}}"
