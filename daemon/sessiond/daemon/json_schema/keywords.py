"""The keywords of one schema: which are kept, and what they say by themselves."""

from __future__ import annotations

import json
from typing import Any, Final

from sessiond.adapters.base.grammar import MAX_REPEAT, literal
from sessiond.daemon.json_schema.apart import KINDS, is_type, values_of
from sessiond.daemon.json_schema.faults import SchemaError
from sessiond.daemon.json_schema.shapes import Schema, as_names

_REMARKS: Final = frozenset(
    "$schema $id $comment $defs definitions title description default examples deprecated readOnly writeOnly".split()
)
"""Keywords that say nothing of what is valid."""
RANGE: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
OF_TYPE: Final[dict[str, frozenset[str]]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "number": frozenset(RANGE),
    "integer": frozenset(RANGE),
    "boolean": frozenset(),
    "null": frozenset(),
}
ALONE: Final = ("$ref", "anyOf", "oneOf", "allOf")
"""Keywords beside which no other may stand."""
_SUPPORTED: Final = frozenset({"type", "const", "enum", *ALONE}.union(*OF_TYPE.values()))

_KNOWN: Final = frozenset(
    "$anchor $dynamicAnchor $dynamicRef $id $vocabulary additionalItems contains contentEncoding contentMediaType"
    " contentSchema dependencies dependentRequired dependentSchemas else if maxContains maxProperties minContains"
    " minProperties multipleOf not pattern patternProperties propertyNames then unevaluatedItems unevaluatedProperties"
    " uniqueItems".split()
)
"""Keywords of JSON Schema that no grammar here keeps. Others are not told by name."""


def keywords(schema: Schema, where: str) -> set[str]:
    """The keywords that decide what is valid. Raises SchemaError for one that is not supported."""
    told = set(schema) - _REMARKS
    unknown = sorted(told - _SUPPORTED)
    if "$id" in schema and where != "#":
        unknown.append("$id")
    if unknown:
        raise SchemaError(where, f"{unknown[0] if unknown[0] in _KNOWN else 'a keyword'} is not supported")
    return told


def another(told: set[str], keyword: str) -> str:
    """One of the keywords beside this one."""
    return min(told - {keyword})


def types(schema: Schema, told: set[str], where: str) -> list[str]:
    """The types of what is written. Where none is told, those about which the keywords say something."""
    if "type" not in schema:
        kinds = [kind for kind in KINDS if OF_TYPE[kind] & told]
        return ["integer" if kind == "number" else kind for kind in kinds]
    one = schema["type"]
    names = [one] if isinstance(one, str) else as_names(one)
    if not names or any(name not in OF_TYPE for name in names):
        raise SchemaError(f"{where}/type", f"is none of {', '.join(OF_TYPE)}")
    return list(dict.fromkeys(names))


def spelled(schema: Schema, told: set[str], where: str) -> str:
    """The values that `const` and `enum` name, as they are written."""
    beside = told - {"const", "enum", "type"}
    if beside or {"const", "enum"} <= told:
        raise SchemaError(where, f"{min(told & {'const', 'enum'})} beside others than type is not supported")
    values = values_of(schema)
    if values is None:
        raise SchemaError(f"{where}/enum", "is no list of values")
    if "type" in schema:
        kinds = types(schema, told, where)
        values = [value for value in values if any(is_type(value, kind) for kind in kinds)]
    if not values:
        raise SchemaError(where, "allows nothing")
    return " | ".join(as_literal(value, where) for value in values)


def as_literal(value: Any, where: str) -> str:
    """A value as JSON, as GBNF."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SchemaError(where, "has a text that is not Unicode") from error
    return literal(text)


def bounds(schema: Schema, least: str, most: str, where: str) -> tuple[int, int | None]:
    """Two counts. Raises SchemaError where they are none, or nothing is between them."""
    for keyword in (least, most):
        count = schema.get(keyword, 0)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise SchemaError(f"{where}/{keyword}", "is no count")
    low, high = schema.get(least, 0), schema.get(most)
    if high is not None and low > high:
        raise SchemaError(where, f"{least} is above {most}")
    if low > MAX_REPEAT:
        raise SchemaError(f"{where}/{least}", f"more than {MAX_REPEAT} is not supported")
    return low, high
