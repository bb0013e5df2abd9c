"""Which session a command means: by its name, or by the folder that it stands over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sessiond.client.sync import Client, Session

F = TypeVar("F", bound=Callable[..., Any])


def folder_option(command: F) -> F:
    """The option --dir; unset means the current folder."""
    return click.option(
        "--dir",
        "folder",
        type=click.Path(exists=True, file_okay=False),
        help="The folder that the session stands over. [default: the current one]",
    )(command)


def model_option(command: F) -> F:
    """The option --model."""
    return click.option(
        "--model",
        metavar="NAME",
        help="The model, by name or path. [default: client.toml's, or the daemon's]",
    )(command)


def key_option(command: F) -> F:
    """The option --key."""
    return click.option(
        "--key",
        metavar="KEY",
        help="Sets apart sessions that are otherwise the same. [default: client.toml's]",
    )(command)


def chosen_model(model: str | None) -> str:
    """The model of the flag, or else of the settings, or else "" for the daemon's own."""
    from sessiond.client.settings import read_settings

    return model if model is not None else read_settings().model


def chosen_key(key: str | None) -> str:
    """The key of the flag, or else of the settings, or else ""."""
    from sessiond.client.settings import read_settings

    return key if key is not None else read_settings().key


def open_over(client: Client, folder: str | None, model: str | None, key: str | None) -> Session:
    """The session over a folder, opened or attached to."""
    root = Path(folder or ".").resolve()
    return client.open_session(root, chosen_model(model), chosen_key(key))


def find_over(client: Client, folder: str | None, key: str | None) -> Session:
    """The live session over a folder that was used last. Opens none. Raises SessionNotFound."""
    from sessiond.v1.errors import SessionNotFound

    root = Path(folder or ".").resolve()
    wanted = chosen_key(key)
    live = [
        session
        for session in client.sessions()
        if Path(session.workspace_root) == root and (not wanted or session.key == wanted)
    ]
    if not live:
        raise SessionNotFound(f"over {root}")
    return client.session(max(live, key=lambda session: (session.last_used_ms, session.create_time_ms)).name)


def text_or_stdin(text: str) -> str:
    """The text of an argument; `-` reads it from standard input. Bytes that are not UTF-8 become U+FFFD."""
    if text != "-":
        return text
    return sys.stdin.buffer.read().decode("utf-8", "replace")
