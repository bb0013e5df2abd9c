"""`sessionctl watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sessiond.client.cli import target
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from sessiond.client.sync import Session


@click.command()
@target.folder_option
@target.key_option
@json_option
@click.argument("name", required=False)
@pass_invocation
def watch(invocation: Invocation, folder: str | None, key: str | None, name: str | None) -> None:
    """Show what happens to a session, from now until it is closed.

    The session is NAME, or the one over the folder that was used last. Shown are files that changed, prefills and how far
    they are, what is computed in the background after a save, and what of the prefix had to be computed again, and why.
    In a pipe the columns are parted by tabs: time, kind, what happened.
    """
    from sessiond.client.cli.output import on_terminal

    if name and (folder or key):
        raise click.UsageError("give either a session's name or --dir and --key")
    with invocation.connected() as client:
        session = client.session(name) if name else target.find_over(client, folder, key)
        if invocation.json:
            _print_json(session)
        elif on_terminal():
            from sessiond.client.cli.watch_view import show

            show(session)
        else:
            _print_lines(session)


def _print_json(session: Session) -> None:
    from sessiond.client.cli.output import say_message
    from sessiond.v1 import session_service_pb2

    with session.watch() as events:
        for event in events:
            say_message(session_service_pb2.WatchSessionResponse(event=event))


def _print_lines(session: Session) -> None:
    from sessiond.client.cli.numbers import clock
    from sessiond.client.cli.output import say
    from sessiond.client.cli.watch_text import told

    with session.watch() as events:
        for event in events:
            line = told(event)
            if line is not None:
                say("\t".join((clock(event.time_ms), line.kind, line.text)))
