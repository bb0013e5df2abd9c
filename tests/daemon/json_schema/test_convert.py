"""Schemas as grammars: which texts they allow, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessiond.adapters.base.grammar import Automaton
from sessiond.daemon.json_schema import SchemaError, to_gbnf


def _allows(schema: Any, text: str) -> bool:
    automaton = Automaton(to_gbnf(json.dumps(schema)))
    after = automaton.run(automaton.start, text.encode())
    return after is not None and after.may_end


_PAIR = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
    "required": ["b"],
    "additionalProperties": False,
}
_TREE = {
    "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2}},
    "$ref": "#/$defs/n",
}
_SHAPES = {
    "oneOf": [
        {"type": "object", "properties": {"kind": {"const": "dot"}}, "required": ["kind"]},
        {
            "type": "object",
            "properties": {"kind": {"const": "ring"}, "r": {"type": "integer"}},
            "required": ["kind", "r"],
        },
    ]
}
_REST = {
    "type": "object",
    "properties": {"ab": {"type": "null"}},
    "additionalProperties": {"type": "integer"},
}

ALLOWED = [
    ({}, '{"any": [1, 2.5e3, "x", null]}'),
    (True, "true"),
    (_PAIR, '{"b":true}'),
    (_PAIR, '{ "a": -12, "b": false}'),
    (_PAIR, '{\n  "a": 1,\n  "b": true\n}'),
    (_TREE, "[[],[[],[]]]"),
    (_SHAPES, '{"kind":"ring","r":3}'),
    (_REST, '{"ab":null,"a":1,"abc":2,"":3}'),
    ({"enum": ["ä\n", 1, None]}, '"ä\\n"'),
    ({"type": ["integer", "null"]}, "null"),
    ({"type": "string", "maxLength": 1}, '"\\u00e4"'),
    ({"prefixItems": [{"type": "null"}], "items": False}, "[]"),
    ({"allOf": [{"type": "null"}]}, "null"),
    ({"minimum": 3}, "3"),
    ({"type": "string", "format": "date-time"}, '"2024-02-28T23:59:59.5Z"'),
]

FORBIDDEN = [
    (_PAIR, '{"a":1}'),
    (_PAIR, '{"b":true,"a":1}'),
    (_PAIR, '{"b":true,"c":1}'),
    (_PAIR, '{"b":true} '),
    (_TREE, "[[],[],[]]"),
    (_SHAPES, '{"kind":"dot","r":3}'),
    (_REST, '{"ab":1}'),
    (_REST, '{"\\u0061b":1}'),
    ({"type": "string"}, '"a\nb"'),
    ({"type": "string"}, '"\\ud83d"'),
    ({"type": "integer"}, "01"),
    ({"type": "integer", "minimum": 10, "maximum": 12}, "13"),
    ({"type": "string", "format": "date"}, '"2024-02-30"'),
    ({"type": "number"}, "1e999"),
    ({"enum": [1, "1"], "type": "string"}, "1"),
]


@pytest.mark.parametrize(("schema", "text"), ALLOWED)
def test_allowed(schema: Any, text: str) -> None:
    assert _allows(schema, text)


@pytest.mark.parametrize(("schema", "text"), FORBIDDEN)
def test_forbidden(schema: Any, text: str) -> None:
    assert not _allows(schema, text)


@pytest.mark.parametrize(
    ("least", "most"), [(0, 0), (-3, 12), (7, 7), (95, 1204), (-120, -9), (-1000, 1000), (9, 10), (100, 999)]
)
def test_whole_numbers_are_bounded_on_both_sides(least: int, most: int) -> None:
    automaton = Automaton(to_gbnf(json.dumps({"type": "integer", "minimum": least, "maximum": most})))
    for number in range(-1500, 1500):
        after = automaton.run(automaton.start, str(number).encode())
        assert (after is not None and after.may_end) == (least <= number <= most)


def _deep() -> Any:
    schema: Any = {"type": "null"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: list[tuple[Any, str]] = [
    (False, "#: allows nothing"),
    (3, "#: is no schema"),
    ({"type": "text"}, "#/type"),
    ({"pattern": "a+"}, "pattern is not supported"),
    ({"properties": {"a": {"not": {}}}}, "#/properties/0: not is not supported"),
    ({"type": "number", "minimum": 0.5}, "integers alone"),
    ({"type": "string", "format": "email"}, "#/format"),
    ({"uniqueItems": True}, "uniqueItems is not"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#/oneOf"),
    ({"oneOf": [{"type": "null"}] * 40}, "more than 32"),
    ({"allOf": [{}, {}]}, "#/allOf"),
    ({"anyOf": []}, "#/anyOf"),
    ({"anyOf": [{}], "type": "null"}, "beside type"),
    ({"$ref": "http://localhost/x"}, "outside"),
    ({"$ref": "#/nowhere"}, "not there"),
    ({"$ref": 3}, "outside"),
    ({"minItems": 3, "maxItems": 2}, "above"),
    ({"minLength": 5000}, "2000"),
    ({"minLength": -1}, "no count"),
    ({"minItems": True}, "no count"),
    ({"prefixItems": [{}], "items": False, "minItems": 2}, "needs 2"),
    ({"required": ["a"], "additionalProperties": False}, "#/required"),
    ({"type": "integer", "minimum": 2, "maximum": 1}, "within"),
    ({"enum": [], "type": "string"}, "allows nothing"),
    ({"enum": 3}, "#/enum"),
    ({"const": "\ud800"}, "Unicode"),
    ({"properties": {"x" * 2000: {}}, "additionalProperties": True}, "1024"),
    ({"enum": ["x" * 1000] * 100}, "65536"),
    (_deep(), "64"),
    ({"secret words": 1}, "#: a keyword is not supported"),
]


@pytest.mark.parametrize(("schema", "what"), REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(schema: Any, what: str) -> None:
    with pytest.raises(SchemaError) as caught:
        to_gbnf(json.dumps(schema))
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 50_000, "NaN", '{"const": 1e999}', '{"const": ' + "9" * 5000 + "}"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(SchemaError):
        to_gbnf(text)


def test_references_in_a_circle_are_refused_and_not_followed() -> None:
    loops = [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    ]
    for schema in loops:
        with pytest.raises(ValueError, match=r"left-recursive|back to itself"):
            Automaton(to_gbnf(json.dumps(schema)))
