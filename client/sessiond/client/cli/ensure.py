"""`sessionctl ensure`."""

from __future__ import annotations

import click

from sessiond.client.cli import target
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation


@click.command()
@target.folder_option
@target.model_option
@target.key_option
@click.option(
    "--file",
    "text_file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Take this text as the prefix instead of the folder's files; - is standard input.",
)
@json_option
@pass_invocation
def ensure(
    invocation: Invocation, folder: str | None, model: str | None, key: str | None, text_file: str | None
) -> None:
    """Make a session's prefix hot.

    The prefix is the folder's files, or one text. Only what is not resident is computed.
    """
    from sessiond.client.cli.output import say, say_message
    from sessiond.client.cli.progress import PrefillBar

    text = None if text_file is None else _read(text_file)
    with invocation.connected() as client:
        session = target.open_over(client, folder, model, key)
        with PrefillBar(session, show=not invocation.json):
            answer = session.ensure_prefix(text, workspace=text is None)
    if invocation.json:
        say_message(answer)
        return
    from sessiond.client.cli.numbers import count, duration

    status = answer.status
    say(
        f"{session.name}: {count(status.prefix_tokens)} tokens hot: {count(status.reused_tokens)} reused, "
        f"{count(status.restored_tokens)} restored, {count(status.prefilled_tokens)} computed, "
        f"in {duration(answer.timings.total_ms)}; {count(status.available_tokens)} still fit"
    )


def _read(path: str) -> str:
    from sessiond.v1.errors import invalid

    try:
        with click.open_file(path, "rb") as file:
            told: bytes = file.read()
        return told.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid("file", f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise invalid("file", f"cannot read {path}: {error.strerror}") from error
