"""The options that say how an answer is made, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sessiond.client.requests import DecodeSettings

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--max-tokens", type=click.IntRange(min=0), help="Tokens of the answer at most."),
    click.option(
        "--temperature", type=click.FloatRange(min=0), help="0 is greedy: always the likeliest token."
    ),
    click.option(
        "--grammar",
        type=click.Path(),
        metavar="FILE",
        help="A GBNF grammar that the answer must follow; - reads it.",
    ),
    click.option(
        "--json-schema",
        type=click.Path(),
        metavar="FILE",
        help="A JSON schema that the answer must follow; - reads it.",
    ),
    click.option(
        "--choice",
        "choices",
        multiple=True,
        metavar="TEXT",
        help="The answer is one of these; give several.",
    ),
    click.option(
        "--logprobs",
        type=click.IntRange(min=0),
        help="Likeliest tokens told with each token, with --json.",
    ),
)


def decoding_options(command: F) -> F:
    """All of them, for a command that hands them to `settings_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_of(
    *,
    max_tokens: int | None,
    temperature: float | None,
    grammar: str | None,
    json_schema: str | None,
    choices: tuple[str, ...],
    logprobs: int | None,
) -> DecodeSettings:
    """What was said; the rest is left to the daemon."""
    if sum(map(bool, (grammar, json_schema, choices))) > 1:
        raise click.UsageError("--grammar, --json-schema and --choice exclude each other")
    settings: DecodeSettings = {}
    if max_tokens is not None:
        settings["max_tokens"] = max_tokens
    if temperature is not None:
        settings["temperature"] = temperature
    if grammar is not None:
        settings["grammar"] = contents_of(grammar)
    if json_schema is not None:
        settings["json_schema"] = contents_of(json_schema)
    if choices:
        settings["choices"] = choices
    if logprobs is not None:
        settings["logprobs"] = logprobs
    return settings


def contents_of(path: str) -> str:
    """The text of a file, or of standard input."""
    try:
        with click.open_file(path, encoding="utf-8") as file:
            text: str = file.read()
            return text
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from error
