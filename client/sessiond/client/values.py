"""What a function answers with, in Python: a text, one of some choices, or what a JSON schema describes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from sessiond.client.requests import DecodeSettings, FreeSettings, decode_config
from sessiond.v1 import config_pb2
from sessiond.v1.errors import invalid

Schema: TypeAlias = str | Mapping[str, Any]
"""A JSON schema as its text, or as what that describes."""

Progress: TypeAlias = Callable[[int, int], object]
"""Hears how many arguments are answered, and how many there are."""


class IncompleteValue(ValueError):
    """An answer ended before it was whole, by `max_tokens` or a stop text. `text` is what came of it."""

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


def value_of(name: str, config: config_pb2.DecodeConfig, text: str) -> Any:
    """The value that a function of this config answered with. Raises IncompleteValue."""
    if config.json_schema:
        try:
            return json.loads(text)
        except ValueError as error:
            raise IncompleteValue(name, text) from error
    if config.choices and text not in config.choices:
        raise IncompleteValue(name, text)
    return text


def body_of(described: Callable[..., Any]) -> str:
    """The docstring of a function, which is a body. Raises InvalidInput where there is none."""
    body = inspect.getdoc(described)
    if not body:
        raise invalid("body", f"{described.__name__} has no docstring")
    return body
