"""`sessionctl explain`."""

from __future__ import annotations

import click

from sessiond.client.cli import target
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation


@click.command()
@target.folder_option
@target.key_option
@click.option(
    "--all", "everything", is_flag=True, help="Show every segment and every file that was left out."
)
@json_option
@click.argument("name", required=False)
@pass_invocation
def explain(
    invocation: Invocation, folder: str | None, key: str | None, everything: bool, name: str | None
) -> None:
    """Show what is resident, and why the rest is not.

    The session is NAME, or the one over the folder that was used last.
    """
    from sessiond.client.cli.output import on_terminal, say, say_message, terminal
    from sessiond.v1 import session_service_pb2

    if name and (folder or key):
        raise click.UsageError("give either a session's name or --dir and --key")
    with invocation.connected() as client:
        session = client.session(name) if name else target.find_over(client, folder, key)
        report = session.explain()
    if invocation.json:
        say_message(session_service_pb2.ExplainContextResponse(report=report))
    elif on_terminal():
        from sessiond.client.cli.explain_view import report_view

        terminal().print(report_view(session.name, report, everything=everything))
    else:
        from sessiond.client.cli.explain_text import report_lines

        for line in report_lines(session.name, report):
            say(line)
