"""What an answer must follow, as one grammar, whatever words the request has for it."""

from __future__ import annotations

import functools

from sessiond.adapters.base.grammar import MAX_TEXT, Automaton, GrammarError, literal
from sessiond.daemon.json_schema import SchemaError, to_gbnf
from sessiond.daemon.server.fields import Fields
from sessiond.v1 import config_pb2

MAX_CHOICES = 1024
MAX_CHOICES_BYTES = 24 << 10
"""Of all choices together, so that their grammar is none that is too long."""

_NAMES = ("grammar", "json_schema", "choices")


def constrained(config: config_pb2.DecodeConfig) -> bool:
    """Whether the answer has to follow anything."""
    return any(getattr(config, name) for name in _NAMES)


def grammar_of(fields: Fields, config: config_pb2.DecodeConfig) -> str:
    """The grammar in GBNF; empty for none. What is refused is noted in the fields, and is refused here: before a turn
    begins.
    """
    given = [name for name in _NAMES if getattr(config, name)]
    if not given:
        return ""
    for name in given[1:]:
        fields.refuse(f"config.{name}", f"excludes {given[0]}: give one of {', '.join(_NAMES)}")
    match given[0]:
        case "grammar":
            grammar = _of_text(fields, config.grammar)
        case "json_schema":
            grammar = _of_schema(fields, config.json_schema)
        case _:
            grammar = _of_choices(fields, config)
    if grammar and (fault := _fault(grammar)):
        fields.refuse(f"config.{given[0]}", fault)
    return grammar


def _of_text(fields: Fields, grammar: str) -> str:
    fields.text("config.grammar", grammar, MAX_TEXT)
    return "" if "\0" in grammar or len(grammar.encode()) > MAX_TEXT else grammar


def _of_schema(fields: Fields, schema: str) -> str:
    if len(schema) > MAX_TEXT:
        fields.refuse("config.json_schema", f"is longer than {MAX_TEXT} characters")
        return ""
    try:
        return to_gbnf(schema)
    except SchemaError as error:
        fields.refuse("config.json_schema", str(error))
        return ""


def _of_choices(fields: Fields, config: config_pb2.DecodeConfig) -> str:
    if len(config.choices) > MAX_CHOICES:
        fields.refuse("config.choices", f"has more than {MAX_CHOICES} entries")
        return ""
    texts = [fields.text(f"config.choices[{index}]", text) for index, text in enumerate(config.choices)]
    if sum(len(text.encode()) for text in texts) > MAX_CHOICES_BYTES:
        fields.refuse("config.choices", f"has more than {MAX_CHOICES_BYTES} bytes")
        return ""
    return "root ::= " + " | ".join(literal(text) for text in dict.fromkeys(texts))


@functools.lru_cache(maxsize=64)
def _fault(grammar: str) -> str:
    """What is wrong with a grammar; empty if nothing is. The answer of a text never changes, and clients send one often."""
    try:
        Automaton(grammar)
    except GrammarError as error:
        return str(error)
    return ""
