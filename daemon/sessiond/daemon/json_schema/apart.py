"""Whether no value is valid under two schemas: only then is a value of one of them valid under exactly one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sessiond.daemon.json_schema.shapes import Schema, as_list, as_names, as_object

KINDS: Final = ("object", "array", "string", "number", "boolean", "null")


def kind_of(value: object) -> str:
    """What JSON calls a value; a whole number is a number."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"


def is_type(value: object, name: str) -> bool:
    """Whether a value is of a type of JSON Schema."""
    if name == "integer":
        return kind_of(value) == "number" and value == int(value)  # type: ignore[call-overload]  # a number, as was asked
    return kind_of(value) == name


def values_of(schema: Schema) -> Sequence[Any] | None:
    """The only values that are valid; None if they are not told one by one."""
    if "const" in schema:
        return [schema["const"]]
    return as_list(schema.get("enum"))


def are_apart(one: Schema, other: Schema) -> bool:
    """Whether it is plain that they have no value in common. Both without `$ref`."""
    if not _kinds(one) & _kinds(other):
        return True
    if _differ(values_of(one), values_of(other)):
        return True
    if not _kinds(one) == _kinds(other) == {"object"}:
        return False
    told, others = as_object(one.get("properties")), as_object(other.get("properties"))
    if told is None or others is None:
        return False
    needed = _names(one) & _names(other)
    return any(_differ(_member(told, name), _member(others, name)) for name in needed)


def _names(schema: Schema) -> set[str]:
    return set(as_names(schema.get("required")) or ())


def _member(properties: Schema, name: str) -> Sequence[Any] | None:
    found = as_object(properties.get(name))
    return None if found is None else values_of(found)


def _differ(one: Sequence[Any] | None, other: Sequence[Any] | None) -> bool:
    if one is None or other is None:
        return False
    return not {_key(value) for value in one} & {_key(value) for value in other}


def _key(value: object) -> str:
    """Equal for equal values: 1 and 1.0 are, 1 and true are not."""
    if kind_of(value) == "number":
        return str(int(value)) if is_type(value, "integer") else repr(value)  # type: ignore[call-overload]  # a number
    return json.dumps(value, sort_keys=True)


def _kinds(schema: Schema) -> set[str]:
    values = values_of(schema)
    if values is not None:
        return {kind_of(value) for value in values}
    told = schema.get("type")
    names = [told] if isinstance(told, str) else as_names(told) or KINDS
    return {"number" if name == "integer" else name for name in names}
