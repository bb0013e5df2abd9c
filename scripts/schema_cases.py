"""Random JSON schemas, and whether a value is valid under one: for what `sessiond.daemon.json_schema` promises.

The check knows the keywords that the schemas here are made of, and is written from their definition alone.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from random import Random
from typing import Any
from uuid import UUID

from sessiond.daemon.json_schema.shapes import as_list, as_object

Schema = dict[str, Any]

_NAMES = ("a", "ab", "b", "größe", 'a "b"', "€", "", "line\nbreak", "a\\b")
_VALUES = ("x", "", 'say "hi"', "ä€😒", "back\\slash", 0, -7, 2.5, True, False, None, [1, "x"], {"k": [None]})
_DEEPEST = 3


def random_schema(random: Random) -> Schema:
    """A schema with a few levels, some with a definition that refers to itself."""
    schema = _schema(random, 0)
    if random.random() < 0.3:
        node: Schema = {
            "type": "object",
            "properties": {
                "value": _schema(random, 2),
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
        schema = {
            "$defs": {"node": node},
            "type": "object",
            "properties": {"top": {"$ref": "#/$defs/node"}, "x": schema},
            "required": ["top"],
        }
    return schema


def _schema(random: Random, depth: int) -> Schema:
    plain = (_string, _integer, _enum, _simple)
    nested = (_object, _array, _union)
    return random.choice(plain if depth >= _DEEPEST else (*plain, *nested, *nested))(random, depth)


def _simple(random: Random, _depth: int) -> Schema:
    return {
        "type": random.choice(["boolean", "null", "number", "integer", ["string", "null"]]),
        "title": "simple",
    }


def _string(random: Random, _depth: int) -> Schema:
    if random.random() < 0.3:
        return {"type": "string", "format": random.choice(["date", "time", "date-time", "uuid"])}
    least = random.choice([None, 0, 1, 3])
    most = random.choice([None, (least or 0) + random.randint(0, 4)])
    return {"type": "string"} | _told(minLength=least, maxLength=most)


def _integer(random: Random, _depth: int) -> Schema:
    low = random.choice([None, random.randint(-1500, 1500)])
    high = random.choice([None, (low or 0) + random.choice([0, 1, 9, 1234])])
    if low is not None and random.random() < 0.3:
        return {"type": "integer", "exclusiveMinimum": low - 0.5} | _told(maximum=high)
    return {"type": "integer"} | _told(minimum=low, maximum=high)


def _enum(random: Random, _depth: int) -> Schema:
    if random.random() < 0.3:
        return {"const": random.choice(_VALUES)}
    return {"enum": random.sample(_VALUES, random.randint(1, 4))}


def _object(random: Random, depth: int) -> Schema:
    names = random.sample(_NAMES, random.randint(0, 4))
    members = {name: _schema(random, depth + 1) for name in names}
    extra = random.choice([None, True, False, _schema(random, depth + 1)])
    needed = [name for name in names if random.random() < 0.5]
    schema: Schema = {"type": "object", "required": needed}
    if names or random.random() < 0.5:
        schema["properties"] = members
    return schema | _told(additionalProperties=extra)


def _array(random: Random, depth: int) -> Schema:
    first = [_schema(random, depth + 1) for _ in range(random.choice([0, 0, 1, 2]))]
    least = random.choice([None, 0, 1, len(first)])
    most = random.choice([None, max(least or 0, random.randint(0, 3))])
    schema = {"type": "array", "items": _schema(random, depth + 1)} | _told(minItems=least, maxItems=most)
    return schema | ({"prefixItems": first} if first else {})


def _union(random: Random, depth: int) -> Schema:
    if random.random() < 0.3:
        kinds = [_string(random, depth), _integer(random, depth), {"type": "null"}]
        return {"oneOf": random.sample(kinds, 2)}
    return {"anyOf": [_schema(random, depth + 1) for _ in range(random.randint(1, 3))]}


def _told(**keywords: Any) -> Schema:
    return {name: value for name, value in keywords.items() if value is not None}


def fault(text: str, schema: Schema) -> str:
    """Why a text is not valid JSON under a schema; empty if it is."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    return "" if valid(value, schema, schema) else "not valid"


def valid(value: Any, schema: Any, root: Schema) -> bool:
    """Whether a value is valid under a schema, whose references are within `root`."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        return valid(value, target, root)
    checks = (
        _holds_type,
        _holds_value,
        _holds_unions,
        _holds_text,
        _holds_number,
        _holds_list,
        _holds_members,
    )
    return all(check(value, schema, root) for check in checks)


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "integer":
            return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)
        case "number":
            return not isinstance(value, bool) and isinstance(value, int | float)
        case _:
            return isinstance(value, {"string": str, "array": list, "object": dict}[kind])


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _holds_type(value: Any, schema: Schema, _root: Schema) -> bool:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return not kinds or any(_is(value, kind) for kind in kinds)


def _holds_value(value: Any, schema: Schema, _root: Schema) -> bool:
    if "const" in schema and not _same(value, schema["const"]):
        return False
    return "enum" not in schema or any(_same(value, each) for each in schema["enum"])


def _holds_unions(value: Any, schema: Schema, root: Schema) -> bool:
    if "anyOf" in schema and not any(valid(value, each, root) for each in schema["anyOf"]):
        return False
    return "oneOf" not in schema or sum(valid(value, each, root) for each in schema["oneOf"]) == 1


def _holds_text(value: Any, schema: Schema, _root: Schema) -> bool:
    if not isinstance(value, str):
        return True
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    reader = {
        "date": date.fromisoformat,
        "time": time.fromisoformat,
        "date-time": datetime.fromisoformat,
        "uuid": UUID,
    }
    if "format" not in schema:
        return True
    # Python's own readers know one, two or more digits of a second's fractions only from 3.11 on, and at most six.
    try:
        reader[schema["format"]](value)
    except ValueError:
        return False
    return (
        schema["format"] != "uuid"
        or re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value) is not None
    )


def _holds_number(value: Any, schema: Schema, _root: Schema) -> bool:
    if not _is(value, "number"):
        return True
    return (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
    )


def _holds_list(value: Any, schema: Schema, root: Schema) -> bool:
    items = as_list(value)
    if items is None:
        return True
    if not schema.get("minItems", 0) <= len(items) <= schema.get("maxItems", len(items)):
        return False
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return all(
        valid(each, first[index] if index < len(first) else rest, root) for index, each in enumerate(items)
    )


def _holds_members(value: Any, schema: Schema, root: Schema) -> bool:
    told = as_object(value)
    if told is None:
        return True
    members = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    if not all(name in told for name in schema.get("required", [])):
        return False
    return all(valid(each, members.get(name, others), root) for name, each in told.items())
