"""What the commands print: JSON for programs, plain text for pipes, tables for a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from sessiond.client.cli.terminal_text import clean, clean_line
from sessiond.v1.errors import SessiondError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console

TIMED_OUT = "DEADLINE_EXCEEDED"


def on_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person reads along."""
    return (stream or sys.stdout).isatty()


def say(text: str = "", *, end: str = "\n", err: bool = False) -> None:
    """Print text, which may come from files or models: on a terminal without its control characters."""
    stream = sys.stderr if err else sys.stdout
    text = clean(text) if on_terminal(stream) else text
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + end)
    stream.flush()


def terminal() -> Console:
    """The terminal for what rich draws. In a locale that lacks a glyph it prints a question mark instead of failing."""
    from rich.console import Console

    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Console()


def say_json(answer: dict[str, Any], *, err: bool = False) -> None:
    """Print one object on one line. Pure ASCII: it means the same in every locale."""
    click.echo(json.dumps(answer), err=err)


def say_message(message: Message) -> None:
    """Print a message of the contract as JSON on one line."""
    say_json(as_dict(message))


def as_dict(message: Message) -> dict[str, Any]:
    """Protobuf's JSON with the original field names; fields without presence stand also where they are empty."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows: a table on a terminal, lines with tabs otherwise. `right` lists the columns that are numbers."""
    cleaned = [[clean_line(cell) for cell in row] for row in rows]
    if not on_terminal():
        for row in cleaned:
            say("\t".join(row))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", overflow="fold")
    for row in cleaned:
        table.add_row(*map(Text, row))
    terminal().print(table)


def error_as_dict(error: SessiondError | TimeoutError) -> dict[str, Any]:
    """The error as `{"error": {"reason", "message", "metadata", "detail"}}`; `detail` is null where it has none."""
    if not isinstance(error, SessiondError):
        told: dict[str, Any] = {"reason": TIMED_OUT, "message": str(error), "metadata": {}, "detail": None}
    else:
        from sessiond.v1.status import detail_of

        detail = detail_of(error)
        told = {
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata(),
            "detail": None if detail is None else as_dict(detail),
        }
    return {"error": told}


def report_error(error: SessiondError | TimeoutError, *, as_json: bool) -> None:
    """Print an error on standard error."""
    if as_json:
        say_json(error_as_dict(error), err=True)
    else:
        say(f"error: {error}", err=True)
