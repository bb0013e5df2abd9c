"""Names of members that are none of some names: where a schema bounds the others by themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sessiond.adapters.base.grammar import literal

MAX_CHARACTERS = 1024
"""Of all names together; each takes a rule."""


def rules_but(names: Collection[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """For each beginning of a name: it, what may follow it up to the closing quote if no name goes on, and by the next
    character of a name the longer beginning. The first is the empty one.

    Such a name has no escape in it, for escapes spell one name in many ways. So a name that needs one cannot come.
    """
    taken = {name for name in names if not any(each in '"\\' or each < " " for each in name)}
    for prefix in sorted({name[:end] for name in taken for end in range(len(name) + 1)} | {""}):
        size = len(prefix)
        longer = {
            name[size]: name[: size + 1] for name in taken if name != prefix and name.startswith(prefix)
        }
        barred = "".join(f"\\U{ord(character):08X}" for character in sorted(longer))
        other = rf'[^"\\\x00-\x1F{barred}] plain* "\""'
        yield prefix, other if prefix in taken else rf'"\"" | {other}', longer


def alternative(character: str, rule: str) -> str:
    """A name that goes on with a character, by the rule for what is then."""
    return f"{literal(character)} {rule}"
