"""What a function answers with, in Python: a text, one of some choices, or what a JSON schema describes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from sessiond.client.requests import DecodeSettings, FreeSettings, decode_config
from sessiond.v1 import config_pb2, context_pb2
from sessiond.v1.errors import invalid

Schema: TypeAlias = str | Mapping[str, Any]
"""A JSON schema as its text, or as what that describes."""

Progress: TypeAlias = Callable[[int, int], object]
"""Hears how many arguments are answered, and how many there are."""


class IncompleteValue(ValueError):
    """An answer ended before it was whole, by `max_tokens`, a stop text, or because the window was full. `text` is what came
    of it. A plain text that ends at the function's own `max_tokens` or stop text is whole: it was asked for so.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"the answer of {name} ended before it was whole: {text!r}")
        self.name = name
        self.text = text


def config_of(
    config: config_pb2.DecodeConfig | None,
    choices: Iterable[str] | None,
    json_schema: Schema | None,
    settings: FreeSettings,
) -> config_pb2.DecodeConfig:
    """How tokens are chosen: `config`, with the rest over it. Raises InvalidInput."""
    over = cast("DecodeSettings", dict(settings))
    if choices is not None:
        over["choices"] = list(choices)
    if json_schema is not None:
        over["json_schema"] = json_schema if isinstance(json_schema, str) else json.dumps(json_schema)
    return decode_config(config, over)


def value_of(
    name: str, config: config_pb2.DecodeConfig, text: str, summary: context_pb2.DecodeSummary
) -> Any:
    """The value that a function of this config answered with. Raises IncompleteValue."""
    if _is_cut_off(config, summary):
        raise IncompleteValue(name, text)
    if config.json_schema:
        try:
            return json.loads(text)
        except ValueError as error:
            raise IncompleteValue(name, text) from error
    if config.choices and text not in config.choices:
        raise IncompleteValue(name, text)
    return text


def said_in(chunks: Iterable[context_pb2.StreamChunk]) -> tuple[str, context_pb2.DecodeSummary]:
    """The whole text of an answer, and what is known of it."""
    texts, summary = list[str](), context_pb2.DecodeSummary()
    for chunk in chunks:
        texts.append(chunk.text)
        if chunk.HasField("summary"):
            summary = chunk.summary
    return "".join(texts), summary


def _is_cut_off(config: config_pb2.DecodeConfig, summary: context_pb2.DecodeSummary) -> bool:
    """A choice or an integer that was cut off may well read as another one: only how it ended tells. A text ends as was asked
    for where it ends at a stop text, or has `max_tokens` of its own; not where the window was full before that.
    """
    asked_for = 0 < config.max_tokens <= summary.generated_tokens
    is_text = not (config.json_schema or config.choices or config.grammar)
    match summary.finish_reason:
        case context_pb2.FINISH_REASON_LENGTH:
            return not (is_text and asked_for)
        case context_pb2.FINISH_REASON_STOP_STRING:
            return not is_text
        case _:
            return False


def body_of(described: Callable[..., Any]) -> str:
    """The docstring of a function, which is a body. Raises InvalidInput where there is none."""
    body = inspect.getdoc(described)
    if not body:
        raise invalid("body", f"{described.__name__} has no docstring")
    return body
