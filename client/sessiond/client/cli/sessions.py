"""`sessionctl ps` and `sessionctl close`."""

from __future__ import annotations

import click

from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation


@click.command()
@json_option
@pass_invocation
def ps(invocation: Invocation) -> None:
    """List the sessions.

    The oldest comes first. In a pipe the columns are parted by tabs: name, state, prefix tokens, resident tokens, last use, model, key, folder.
    """
    from sessiond.client.cli.numbers import ago, count
    from sessiond.client.cli.output import say_message, say_table
    from sessiond.v1 import session_service_pb2

    with invocation.connected() as client:
        sessions = client.sessions()
    if invocation.json:
        say_message(session_service_pb2.ListSessionsResponse(sessions=sessions))
        return
    say_table(
        ("SESSION", "STATE", "PREFIX", "RESIDENT", "USED", "MODEL", "KEY", "FOLDER"),
        [
            (
                session.name,
                state_word(session.state),
                count(session.prefix_tokens),
                count(session.resident_tokens),
                ago(session.last_used_ms),
                session.model,
                session.key,
                session.workspace_root,
            )
            for session in sessions
        ],
        right=(2, 3),
    )


@click.command()
@json_option
@click.argument("name")
@pass_invocation
def close(invocation: Invocation, name: str) -> None:
    """Close a session and free what it holds.

    NAME is sessions/{id}, or the id alone. A running turn is cancelled.
    """
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import session_service_pb2

    with invocation.connected() as client:
        closed = client.session(name).close()
    if invocation.json:
        say_message(session_service_pb2.CloseSessionResponse(session=closed))
    else:
        say(f"{closed.name}: closed")


def state_word(state: int) -> str:
    """A state's name in one small word; a number that this client does not know stays a number."""
    from sessiond.v1.session_service_pb2 import SessionState

    name = SessionState.DESCRIPTOR.values_by_number.get(state)
    return name.name.removeprefix("SESSION_STATE_").lower() if name else str(state)
