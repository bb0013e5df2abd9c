"""`sessionctl fill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sessiond.client.cli import target
from sessiond.client.cli.ask import print_json, print_text, session_of
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from sessiond.client.requests import DecodeSettings


@click.command()
@click.option("--session", "name", metavar="NAME", help="Ask this session instead of one over a folder.")
@target.folder_option
@target.model_option
@target.key_option
@click.option(
    "--line", type=click.IntRange(min=1), help="Line of the cursor, from 1. [default: the last one]"
)
@click.option(
    "--column",
    type=click.IntRange(min=1),
    help="The character before which the cursor stands, from 1. [default: the line's end]",
)
@click.option("--max-tokens", type=click.IntRange(min=0), help="Tokens of the answer at most.")
@click.option("--temperature", type=click.FloatRange(min=0), help="0 is greedy: always the likeliest token.")
@click.option("--suffix-first", is_flag=True, help="For models that were trained with it: see FimLayout.")
@click.option("--no-workspace", is_flag=True, help="Without the folder's files before the file.")
@json_option
@click.argument("file", type=click.Path())
@pass_invocation
def fill(
    invocation: Invocation,
    name: str | None,
    folder: str | None,
    model: str | None,
    key: str | None,
    line: int | None,
    column: int | None,
    max_tokens: int | None,
    temperature: float | None,
    suffix_first: bool,
    no_workspace: bool,
    file: str,
) -> None:
    """Fill in what stands at a place of a file.

    The model is given the text on both sides of the place, after the folder's files. It has to be one that can fill in
    the middle. FILE `-` reads standard input.
    """
    if name and (folder or model or key):
        raise click.UsageError("--session names one session; --dir, --model and --key choose another")
    before, after = _around(_read(file), line, column)
    settings: DecodeSettings = {}
    if max_tokens is not None:
        settings["max_tokens"] = max_tokens
    if temperature is not None:
        settings["temperature"] = temperature
    from sessiond.client.cli.progress import PrefillBar
    from sessiond.client.requests import fim_input, prefix_input

    fim = fim_input(before, after, _path_in(folder, file), suffix_first=suffix_first)
    with invocation.connected() as client:
        session, over_files = session_of(client, name, folder, model, key, no_workspace)
        prefix = prefix_input(workspace=True) if over_files else None
        with (
            PrefillBar(session, show=not invocation.json) as bar,
            session.complete(fim=fim, mode="replace", prefix=prefix, **settings) as turn,
        ):
            if invocation.json:
                print_json(turn)
            else:
                print_text(turn, bar)


def _read(file: str) -> str:
    if file == "-":
        return target.text_or_stdin(file)
    try:
        return Path(file).read_bytes().decode("utf-8")  # line ends stay as they are
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from error


def _around(text: str, line: int | None, column: int | None) -> tuple[str, str]:
    """The text before and after the cursor."""
    lines = text.split("\n")
    number = len(lines) if line is None else line
    if number > len(lines):
        raise click.UsageError(f"--line {number}: there are {len(lines)} lines")
    here = lines[number - 1].removesuffix("\r")
    place = len(here) if column is None else column - 1
    if place > len(here):
        raise click.UsageError(f"--column {column}: the line has {len(here)} characters")
    start = sum(len(each) + 1 for each in lines[: number - 1]) + place
    return text[:start], text[start:]


def _path_in(folder: str | None, file: str) -> str:
    """The file's path in the folder; empty if it does not lie there."""
    root, path = Path(folder or ".").resolve(), Path(file).resolve()
    return "" if file == "-" or not path.is_relative_to(root) else path.relative_to(root).as_posix()
