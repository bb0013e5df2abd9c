"""What one text defines, and which names it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tree_sitter import Node, Parser, QueryCursor

from sessiond.daemon.workspace.repo_map.languages import Language, load
from sessiond.daemon.workspace.repo_map.one_line import one_line

MAX_DEFINITIONS = 2_000
"""The first ones of a file; more has only what was made by a program."""
MAX_REFERENCES = 10_000
MAX_DEPTH = 4
"""Definitions that a definition may stand in."""
MAX_SIGNATURE = 120
"""Characters of a signature or a name."""
_OPEN_MATCHES = 10_000
"""Matches of a query that may be incomplete at a time. Only a deep nest has more; those are lost."""
_SIGNATURE_BYTES = 4_096
"""What is looked at of a signature: blanks and comments in it make it longer than its line in the map."""

# What remains of line breaks between brackets, and what led over to the body.
_AFTER_OPENING = re.compile(r"(?<=[(\[]) ")
_BEFORE_CLOSING = re.compile(r",? (?=[)\]])| (?=,)")
_TAIL = " :={;\\"


@dataclass(frozen=True, slots=True)
class Definition:
    """Something with a name."""

    name: str
    signature: str
    """One line, without the body."""
    parent: int | None = None
    """The index of the definition in which it stands."""
    depth: int = 0
    """How many definitions it stands in."""
    owner: str = ""
    """The name through which it is used, which is that of its class; empty if it is used by itself."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What one text defines, in its order, and all names it uses."""

    definitions: tuple[Definition, ...] = ()
    references: frozenset[str] = frozenset()
    """`name` where it stands alone, `.name` where it is used through anything, and `object.name` if that is a name."""
    given_up: bool = False
    """Whether it is empty because the text cost too much."""


def outline(language: str, source: bytes) -> Outline:
    """The outline of a text in UTF-8. What cannot be parsed is passed over; the rest of the text is not.

    It cannot be interrupted, and there are texts of a few kilobytes that take hours: see `parser`.
    """
    loaded = load(language)
    found = _Found(loaded, source)
    cursor = QueryCursor(loaded.query, match_limit=_OPEN_MATCHES)
    for pattern, captures in cursor.matches(Parser(loaded.grammar).parse(source).root_node):
        found.take(pattern, captures)
    return Outline(tuple(found.definitions()), frozenset(found.references))


@dataclass(frozen=True, slots=True)
class _Span:
    """A definition as it was found. All numbers are byte offsets."""

    start: int
    end: int
    signature_end: int
    pattern: int
    kind: str
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class _Open:
    """A definition that has not ended yet."""

    end: int
    index: int
    owner: str
    """Of what stands in it."""
    shows_insides: bool


@dataclass(slots=True)
class _Found:
    """What the matches of a query say about a text."""

    language: Language
    source: bytes
    spans: dict[tuple[int, int], _Span] = field(default_factory=dict[tuple[int, int], _Span])
    references: set[str] = field(default_factory=set[str])
    noise: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def take(self, pattern: int, captures: dict[str, list[Node]]) -> None:
        """One match: a definition, a reference or noise."""
        for capture, nodes in captures.items():
            node = nodes[0]
            if capture == "noise":
                self.noise.append(node.byte_range)
            elif capture == "reference" or (capture == "capitalized" and _is_capitalized(self._name(node))):
                self._refer(self._name(node))
            elif capture == "member":
                self._refer("." + self._name(node))
                self._refer_through(captures["object"][0], node)
            elif capture in {"scope", "space", "leaf", "constant"}:
                self._take_definition(pattern, capture, node, captures)

    def _refer(self, name: str) -> None:
        if len(self.references) < MAX_REFERENCES:
            self.references.add(name[:MAX_SIGNATURE])

    def _refer_through(self, through: Node, node: Node) -> None:
        # In a chain of calls each link contains all before it: only short ones are looked at.
        if through.end_byte - through.start_byte <= MAX_SIGNATURE:
            last = self._name(through).rpartition(".")[2]
            if last.isidentifier():
                self._refer(f"{last}.{self._name(node)}")

    def _take_definition(self, pattern: int, kind: str, node: Node, captures: dict[str, list[Node]]) -> None:
        name = self._name(captures["name"][0])
        # A parser that mends a text invents names of no length.
        if not name or (kind == "constant" and not _is_capitalized(name)):
            return
        known = self.spans.get(node.byte_range)
        if known is None or pattern < known.pattern:
            end = captures["body"][0].start_byte if "body" in captures else node.end_byte
            owner = self._name(captures["owner"][0]) if "owner" in captures else ""
            self.spans[node.byte_range] = _Span(*node.byte_range, end, pattern, kind, name, owner)

    def _name(self, node: Node) -> str:
        text = self.source[node.start_byte : node.end_byte][:_SIGNATURE_BYTES].decode(errors="ignore")
        return one_line(text.rpartition("::")[2], MAX_SIGNATURE)

    def definitions(self) -> Iterator[Definition]:
        """Those in no leaf and not too deep, outer before inner, otherwise as in the text."""
        clean = bytearray(self.source)
        for start, end in self.noise:
            clean[start:end] = b" " * (end - start)
        around: list[_Open] = []
        count = 0
        for span in sorted(self.spans.values(), key=lambda span: (span.start, -span.end)):
            while around and around[-1].end <= span.start:
                around.pop()
            if (around and not around[-1].shows_insides) or len(around) > MAX_DEPTH:
                continue
            if count >= MAX_DEFINITIONS:
                return
            parent, owner = (around[-1].index, around[-1].owner) if around else (None, "")
            signature = _signature(clean, span, self.language.prefixes[span.pattern])
            yield Definition(span.name, signature, parent, len(around), span.owner or owner)
            inside = span.name if span.kind == "scope" else owner
            around.append(_Open(span.end, count, inside, shows_insides=span.kind in {"scope", "space"}))
            count += 1


def _is_capitalized(name: str) -> bool:
    return name.lstrip("_")[:1].isupper()


def _signature(source: bytearray, span: _Span, prefix: str) -> str:
    end = min(span.signature_end, span.start + _SIGNATURE_BYTES)
    text = one_line(source[span.start : end].decode(errors="ignore"), _SIGNATURE_BYTES)
    text = _AFTER_OPENING.sub("", _BEFORE_CLOSING.sub("", text))
    text = text.rstrip(_TAIL).removesuffix("=>").rstrip(_TAIL)
    return one_line(prefix + (text or span.name), MAX_SIGNATURE)
