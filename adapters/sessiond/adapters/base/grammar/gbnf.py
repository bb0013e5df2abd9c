"""GBNF, the notation of llama.cpp's grammars, read into rules. Names of tokens (`<name>`) are not read: a grammar is about
text, whatever the vocabulary.
"""

from __future__ import annotations

import re
from typing import Final

from sessiond.adapters.base.grammar.faults import GrammarError
from sessiond.adapters.base.grammar.rules import Rules, Symbol, left_recursive
from sessiond.adapters.base.grammar.utf8 import LAST, Range, merged, others

MAX_TEXT = 1 << 16
"""Characters of a grammar."""
MAX_DEPTH = 64
"""Parentheses in one another."""
MAX_REPEAT = 2000
"""Times that an item may be repeated; llama.cpp has the same."""

_ROOT = "root"
_NAME = re.compile(r"[A-Za-z0-9-]+")
_COUNT = re.compile(r"\{[ \t]*([0-9]{1,9})[ \t]*(?:(,)[ \t]*([0-9]{1,9})?[ \t]*)?\}")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_SHORT: Final = {"t": "\t", "r": "\r", "n": "\n"}
_SAME: Final = frozenset('\\"[]-')
_HEX: Final = {"x": 2, "u": 4, "U": 8}
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def literal(text: str) -> str:
    """A text as GBNF."""
    return '"' + "".join(_ESCAPED.get(character, character) for character in text) + '"'


def parse(text: str) -> tuple[Rules, Symbol]:
    """The rules of a grammar, and its root. Raises GrammarError."""
    if len(text) > MAX_TEXT:
        raise GrammarError(f"is longer than {MAX_TEXT} characters")
    return _Reader(text).read()


class _Reader:
    """Reads from left to right; `_at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._rules = Rules()
        self._named: dict[str, Symbol] = {}
        self._lines: dict[Symbol, int] = {}
        """Of each rule that has a name, where that stands first."""

    def read(self) -> tuple[Rules, Symbol]:
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            self._rule()
            self._skip(_SPACE_AND_LINES)
        for rule, line in self._lines.items():
            if not self._rules.alternatives[rule]:
                raise GrammarError(f"line {line}: a name that is not defined")
        if _ROOT not in self._named:
            raise GrammarError("has no rule named root")
        around = left_recursive(self._rules)
        if around is not None:
            where = f", that of line {self._lines[around]}" if around in self._lines else ""
            raise GrammarError(
                f"is left-recursive: a rule comes to itself before it has read anything{where}"
            )
        return self._rules, self._named[_ROOT]

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _wrong(self, expected: str) -> GrammarError:
        line = self._line()
        found = repr(self._text[self._at]) if self._at < len(self._text) else "its end"
        return GrammarError(f"line {line}: {expected} is expected, not {found}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _take(self, character: str) -> None:
        if self._peek() != character:
            raise self._wrong(repr(character))
        self._at += 1

    def _name(self) -> Symbol:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._wrong("a name")
        self._at = found.end()
        if found[0] not in self._named:
            self._named[found[0]] = self._rules.new()
            self._lines[self._named[found[0]]] = self._line()
        return self._named[found[0]]

    def _rule(self) -> None:
        rule = self._name()
        if self._rules.alternatives[rule]:
            raise self._wrong("a name that is not defined yet")
        self._skip(_SPACE)
        for character in "::=":
            self._take(character)
        self._skip(_SPACE_AND_LINES)
        self._alternatives(rule)
        if self._at < len(self._text) and self._peek() not in "\r\n":
            raise self._wrong("the end of the line")

    def _alternatives(self, rule: Symbol) -> None:
        self._rules.add(rule, self._sequence())
        while self._peek() == "|":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            self._rules.add(rule, self._sequence())

    def _sequence(self) -> list[Symbol]:
        done: list[Symbol] = []
        item: list[Symbol] | None = None
        while (character := self._peek()) and character not in "|)\r\n":
            if character in "*+?{":
                if item is None:
                    raise self._wrong("something to repeat")
                item = self._repeated(item, *self._times())
            else:
                done += item or ()
                item = self._item(character)
            self._skip(_SPACE_AND_LINES if self._depth else _SPACE)
        return done + (item or [])

    def _item(self, character: str) -> list[Symbol]:
        match character:
            case '"':
                return self._literal()
            case "[":
                return list(self._rules.characters(self._class()))
            case ".":
                self._at += 1
                return list(self._rules.characters(((0, LAST),)))
            case "(":
                return [self._group()]
            case _:
                return [self._name()]

    def _group(self) -> Symbol:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise GrammarError(f"has more than {MAX_DEPTH} parentheses in one another")
        self._at += 1
        self._skip(_SPACE_AND_LINES)
        rule = self._rules.new()
        self._alternatives(rule)
        self._take(")")
        self._depth -= 1
        return rule

    def _times(self) -> tuple[int, int | None]:
        """How often at least and at most."""
        found = _COUNT.match(self._text, self._at)
        if found is None:
            if self._peek() == "{":
                raise self._wrong("a repetition such as {2}, {2,} or {2,3}")
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[self._text[self._at - 1]]
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        if max(least, most or 0) > MAX_REPEAT:
            raise self._wrong(f"at most {MAX_REPEAT} times")
        if most is not None and most < least:
            raise self._wrong("a largest number that is not below the least")
        self._at = found.end()
        return least, most

    def _repeated(self, item: list[Symbol], least: int, most: int | None) -> list[Symbol]:
        rules = self._rules
        if not item or most == 0:
            return []
        if len(item) > 1:
            item = [rules.one_of([item])]
        found = item * least
        if most is None:
            more = rules.new()
            rules.add(more, [*item, more])
            rules.add(more, ())
            return [*found, more]
        tail: list[Symbol] = []
        for _ in range(most - least):
            tail = [rules.one_of([[*item, *tail], ()])]
        return found + tail

    def _literal(self) -> list[Symbol]:
        self._at += 1
        found: list[str] = []
        while self._peek() != '"':
            found.append(chr(self._character()))
        self._at += 1
        return self._rules.literal("".join(found).encode())

    def _class(self) -> tuple[Range, ...]:
        self._at += 1
        inverse = self._peek() == "^"
        self._at += inverse
        ranges: list[Range] = []
        while self._peek() != "]":
            first = last = self._character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._character()
                if last < first:
                    raise self._wrong("a range whose end is not before its start")
            ranges.append((first, last))
        self._at += 1
        return tuple(others(ranges) if inverse else merged(ranges))

    def _character(self) -> int:
        character = self._peek()
        if not character:
            raise self._wrong("a closing quote or bracket")
        self._at += 1
        code = self._escape() if character == "\\" else ord(character)
        if 0xD800 <= code <= 0xDFFF or code > LAST:
            raise self._wrong("a character that UTF-8 has")
        return code

    def _escape(self) -> int:
        kind = self._peek()
        self._at += 1
        if kind in _SAME and kind:
            return ord(kind)
        if kind in _SHORT:
            return ord(_SHORT[kind])
        size = _HEX.get(kind, 0)
        digits = self._text[self._at : self._at + size]
        if not size or not re.fullmatch(rf"[0-9A-Fa-f]{{{size}}}", digits):
            self._at -= 1
            raise self._wrong(r"one of \t \r \n \\ \" \[ \] \- \xHH \uHHHH \UHHHHHHHH")
        self._at += size
        return int(digits, 16)
