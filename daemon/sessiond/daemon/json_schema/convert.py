"""Walks a schema and writes its grammar."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any
from urllib.parse import unquote

from sessiond.adapters.base.grammar import MAX_TEXT
from sessiond.daemon.json_schema.apart import are_apart
from sessiond.daemon.json_schema.basics import FORMATS, RULES, repeated, text_of
from sessiond.daemon.json_schema.faults import SchemaError
from sessiond.daemon.json_schema.integers import LARGEST, between
from sessiond.daemon.json_schema.keys import MAX_CHARACTERS, alternative, rules_but
from sessiond.daemon.json_schema.keywords import (
    ALONE,
    OF_TYPE,
    RANGE,
    another,
    as_literal,
    bounds,
    keywords,
    spelled,
    types,
)
from sessiond.daemon.json_schema.shapes import Schema, as_list, as_names, as_object

MAX_DEPTH = 64
"""Schemas in one another."""

MAX_ONE_OF = 32
"""Schemas of which exactly one is to hold: each is compared with each."""


def to_gbnf(text: str) -> str:
    """The grammar of a schema. Raises SchemaError, and so does whatever is neither kept nor a remark."""
    try:
        schema = json.loads(text, parse_constant=_finite, parse_float=_finite)
        return _Converter(schema).grammar()
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError("#", f"is no JSON: {error}") from error
    except RecursionError as error:
        raise SchemaError("#", "has values too deep in one another") from error


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:32]} is no number")
    return number


class _Converter:
    """Rules by name. Each schema that is met becomes one, and each `$ref` the rule of what it names."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._named: dict[str, str] = {}
        """By pointer, the rule of what a `$ref` names."""
        self._depth = 0
        self._size = 0

    def grammar(self) -> str:
        root = self._visit(self._schema, "#")
        rules = {"root": root} | self._rules | RULES
        return "\n".join(f"{name} ::= {rule}" for name, rule in rules.items())

    def _add(self, rule: str) -> str:
        return self._write(self._reserve(), rule)

    def _reserve(self) -> str:
        name = f"r{len(self._rules)}"
        self._rules[name] = ""
        return name

    def _write(self, name: str, rule: str) -> str:
        self._size += len(rule) + 12
        if self._size > MAX_TEXT:
            raise SchemaError("#", f"its grammar has more than {MAX_TEXT} characters")
        self._rules[name] = rule
        return name

    def _visit(self, schema: Any, where: str) -> str:
        """The name of the rule for a schema."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SchemaError("#", f"has more than {MAX_DEPTH} schemas in one another")
        try:
            return self._one(schema, where)
        finally:
            self._depth -= 1

    def _one(self, given: Any, where: str) -> str:
        if given is True:
            return "value"
        schema = as_object(given)
        if schema is None:
            raise SchemaError(where, "allows nothing" if given is False else "is no schema")
        told = keywords(schema, where)
        for keyword in ALONE:
            if keyword in told:
                if len(told) > 1:
                    raise SchemaError(where, f"{keyword} beside {another(told, keyword)} is not supported")
                return self._alone(keyword, schema[keyword], where)
        if told & {"const", "enum"}:
            return self._add(spelled(schema, told, where))
        kinds = types(schema, told, where)
        if not told:
            return "value"
        return self._either([self._typed(kind, schema, where) for kind in kinds])

    def _either(self, names: Sequence[str]) -> str:
        return names[0] if len(names) == 1 else self._add(" | ".join(names))

    def _alone(self, keyword: str, value: Any, where: str) -> str:
        if keyword == "$ref":
            return self._ref(value, where)
        there = f"{where}/{keyword}"
        options = as_list(value)
        if not options:
            raise SchemaError(there, "is no list of schemas")
        if keyword == "allOf" and len(options) > 1:
            raise SchemaError(there, "of more than one schema is not supported")
        if keyword == "oneOf" and len(options) > MAX_ONE_OF:
            raise SchemaError(there, f"of more than {MAX_ONE_OF} schemas is not supported")
        if keyword == "oneOf":
            self._check_apart(options, there)
        return self._either([self._visit(each, f"{there}/{index}") for index, each in enumerate(options)])

    def _check_apart(self, options: Sequence[Any], where: str) -> None:
        plain = [self._plain(each, where) for each in options]
        for (one, first), (other, second) in combinations(enumerate(plain), 2):
            if not are_apart(first, second):
                raise SchemaError(
                    where, f"a value may be valid under {one} and {other}; use anyOf if that may be"
                )

    def _plain(self, given: Any, where: str) -> Schema:
        """The same without `$ref`; the empty one, which allows all, for one that is no object."""
        for _ in range(MAX_DEPTH):
            schema = as_object(given) or {}
            if "$ref" not in schema:
                return schema
            given = self._at(schema["$ref"], where)
        raise SchemaError(where, "has a $ref that leads back to itself")

    def _ref(self, pointer: Any, where: str) -> str:
        found = self._at(pointer, where)
        if pointer not in self._named:
            name = self._named[pointer] = self._reserve()
            self._write(name, self._visit(found, f"{where}/$ref"))
        return self._named[pointer]

    def _at(self, pointer: Any, where: str) -> Any:
        """What a `$ref` names."""
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise SchemaError(where, "has a $ref to something outside of this schema, or by an anchor")
        found: Any = self._schema
        for part in unquote(pointer).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            members, items = as_object(found), as_list(found)
            if members is not None and key in members:
                found = members[key]
            elif items is not None and key.isdecimal() and int(key[:9]) < len(items):
                found = items[int(key[:9])]
            else:
                raise SchemaError(where, "has a $ref to what is not there")
        return found

    def _typed(self, kind: str, schema: Schema, where: str) -> str:
        if not OF_TYPE[kind] & set(schema):
            return kind
        match kind:
            case "object":
                return self._object(schema, where)
            case "array":
                return self._array(schema, where)
            case "string":
                return self._string(schema, where)
            case "integer":
                return self._integer(schema, where)
            case _:
                raise SchemaError(where, "bounds are supported for integers alone")

    def _string(self, schema: Schema, where: str) -> str:
        least, most = bounds(schema, "minLength", "maxLength", where)
        if "format" not in schema:
            return self._add(text_of(repeated("char", least, most)))
        if schema["format"] not in FORMATS or "minLength" in schema or "maxLength" in schema:
            raise SchemaError(f"{where}/format", f"only {', '.join(FORMATS)} are supported, without lengths")
        return self._add(text_of(schema["format"]))

    def _integer(self, schema: Schema, where: str) -> str:
        least, most = -LARGEST, LARGEST
        for keyword in RANGE:
            if keyword in schema:
                bound = schema[keyword]
                if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
                    raise SchemaError(f"{where}/{keyword}", "is no number")
                if keyword.endswith("inimum"):
                    least = max(least, math.floor(bound) + 1 if keyword[0] == "e" else math.ceil(bound))
                else:
                    most = min(most, math.ceil(bound) - 1 if keyword[0] == "e" else math.floor(bound))
        if least > most:
            raise SchemaError(where, "no whole number of 16 digits is within these bounds")
        return self._add(between(least, most))

    def _array(self, schema: Schema, where: str) -> str:
        least, most = bounds(schema, "minItems", "maxItems", where)
        first = as_list(schema.get("prefixItems", []))
        if first is None:
            raise SchemaError(f"{where}/prefixItems", "is no list of schemas")
        items = [self._visit(each, f"{where}/prefixItems/{index}") for index, each in enumerate(first[:most])]
        rest = schema.get("items", True)
        more = None
        if rest is not False and (most is None or most > len(first)):
            more = self._visit(rest, f"{where}/items")
        if more is None and least > len(items):
            raise SchemaError(where, f"needs {least} items and allows {len(items)}")
        if more is not None and not items:
            items = [more]
        return self._add(f'"[" ws {self._items(items, more, least, most)} "]"')

    def _items(self, items: list[str], more: str | None, least: int, most: int | None) -> str:
        """The items of a list, from the last one back: behind each the list may go on, or has to."""
        count = len(items)
        tail = ""
        if more is not None and (most is None or most > count):
            tail = repeated(
                f'("," ws {more} ws)', max(0, least - count), None if most is None else most - count
            )
        for index in range(count - 1, -1, -1):
            comma = '"," ws ' if index else ""
            tail = self._add(("| " if index >= least else "") + f"{comma}{items[index]} ws {tail}")
        return tail

    def _object(self, schema: Schema, where: str) -> str:
        properties = as_object(schema.get("properties", {}))
        told = as_names(schema.get("required", []))
        extra = schema.get("additionalProperties", "properties" not in schema)
        if properties is None:
            raise SchemaError(f"{where}/properties", "is no object")
        if told is None:
            raise SchemaError(f"{where}/required", "is no list of names")
        required = dict.fromkeys(told)
        members = dict(properties)
        for name in required:
            if name not in members and schema.get("additionalProperties") is False:
                raise SchemaError(f"{where}/required", "names a member that additionalProperties forbids")
            members.setdefault(name, schema.get("additionalProperties", True))
        written = [
            (self._member(name, each, f"{where}/properties/{index}"), name in required)
            for index, (name, each) in enumerate(members.items())
        ]
        others = None if extra is False else self._extra(set(members), extra, where)
        return self._add(f'"{{" ws {self._members(written, others)} "}}"')

    def _member(self, name: str, schema: Any, where: str) -> str:
        return self._add(f'{as_literal(name, where)} ":" ws {self._visit(schema, where)} ws')

    def _extra(self, names: set[str], schema: Any, where: str) -> str:
        """A member whose name is none of these."""
        value = self._visit(schema, f"{where}/additionalProperties")
        if not names:
            return self._add(f'string ":" ws {value} ws')
        if sum(map(len, names)) > MAX_CHARACTERS:
            raise SchemaError(
                where, f"additionalProperties beside names of more than {MAX_CHARACTERS} characters"
            )
        rules = list(rules_but(names))
        own = {prefix: self._reserve() for prefix, _, _ in rules}
        for prefix, other, longer in rules:
            following = [alternative(character, own[each]) for character, each in sorted(longer.items())]
            self._write(own[prefix], " | ".join([other, *following]))
        return self._add(f'"\\"" {own[""]} ":" ws {value} ws')

    def _members(self, members: list[tuple[str, bool]], others: str | None) -> str:
        """The members in their order, from the last one back: as those that stand first, and as those behind another."""
        first = f'({others} ("," ws {others})*)?' if others else '""'
        later = f'("," ws {others})*' if others else '""'
        for member, needed in reversed(members):
            first, later = (
                self._add(f"{member} {later}" + ("" if needed else f" | {first}")),
                self._add(f'"," ws {member} {later}' + ("" if needed else f" | {later}")),
            )
        return first
