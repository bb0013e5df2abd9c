"""`sessionctl snapshot save` and `sessionctl snapshot restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sessiond.client.cli import target
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from sessiond.client.sync import Client, Session


_name_option = click.option(
    "--session", "name", metavar="NAME", help="The session by its name, instead of --dir and --key."
)


@click.group()
def snapshot() -> None:
    """Write a session to a file, or read one from a file.

    A snapshot is a session's prefix, suffix and generated text with what was computed of them. The file stands on the
    machine of the daemon.
    """


@snapshot.command()
@target.folder_option
@target.key_option
@_name_option
@json_option
@click.argument("file")
@pass_invocation
def save(invocation: Invocation, folder: str | None, key: str | None, name: str | None, file: str) -> None:
    """Write a session to FILE.

    The session is the one over the folder that was used last, unless --session names it. Others must not be able to write
    to the folder of FILE. A snapshot that is there is replaced once the new one is whole.
    """
    from sessiond.client.cli.numbers import count
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import session_service_pb2

    with invocation.connected() as client:
        session = _session(client, folder, key, name)
        size = session.save_snapshot(file)
    if invocation.json:
        say_message(session_service_pb2.SaveSnapshotResponse(size_bytes=size))
    else:
        say(f"{session.name}: {count(size)} bytes in {file}")


@snapshot.command()
@target.folder_option
@target.key_option
@_name_option
@json_option
@click.argument("file")
@pass_invocation
def restore(invocation: Invocation, folder: str | None, key: str | None, name: str | None, file: str) -> None:
    """Have a session be what FILE says.

    The session is the one over the folder that was used last, unless --session names it. Its model and its settings must be
    those of the session that was saved. What it was before is gone from it.
    """
    from sessiond.client.cli.numbers import count
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import session_service_pb2

    with invocation.connected() as client:
        restored = _session(client, folder, key, name).restore_snapshot(file)
    if invocation.json:
        say_message(session_service_pb2.RestoreSnapshotResponse(session=restored))
    else:
        say(f"{restored.name}: {count(restored.resident_tokens)} tokens from {file}")


def _session(client: Client, folder: str | None, key: str | None, name: str | None) -> Session:
    if name and (folder or key):
        raise click.UsageError("give either --session or --dir and --key")
    return client.session(name) if name else target.find_over(client, folder, key)
