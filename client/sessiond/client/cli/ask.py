"""`sessionctl ask`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sessiond.client.cli import target
from sessiond.client.cli.decoding import decoding_options, settings_of
from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from sessiond.client.cli.progress import PrefillBar
    from sessiond.client.requests import DecodeSettings
    from sessiond.client.sync import Client, Session, Stream
    from sessiond.v1.context_pb2 import PrefixStatus
    from sessiond.v1.session_service_pb2 import CompleteResponse


@click.command()
@click.option("--session", "name", metavar="NAME", help="Ask this session instead of one over a folder.")
@target.folder_option
@target.model_option
@target.key_option
@decoding_options
@click.option("--no-workspace", is_flag=True, help="Ask without the folder's files before the question.")
@json_option
@click.argument("text", nargs=-1, required=True)
@pass_invocation
def ask(
    invocation: Invocation,
    name: str | None,
    folder: str | None,
    model: str | None,
    key: str | None,
    max_tokens: int | None,
    temperature: float | None,
    grammar: str | None,
    json_schema: str | None,
    choices: tuple[str, ...],
    logprobs: int | None,
    no_workspace: bool,
    text: tuple[str, ...],
) -> None:
    """Ask a question about a folder and stream the answer.

    The folder's files stand before the question, and stay hot for the next one. TEXT may be several words; `-` reads it
    from standard input.
    """
    if name and (folder or model or key):
        raise click.UsageError("--session names one session; --dir, --model and --key choose another")
    settings = settings_of(
        max_tokens=max_tokens,
        temperature=temperature,
        grammar=grammar,
        json_schema=json_schema,
        choices=choices,
        logprobs=logprobs,
    )
    question = target.text_or_stdin(" ".join(text))
    with invocation.connected() as client:
        session, over_files = session_of(client, name, folder, model, key, no_workspace)
        _answer(invocation, session, question, over_files, settings)


def session_of(
    client: Client,
    name: str | None,
    folder: str | None,
    model: str | None,
    key: str | None,
    no_workspace: bool,
) -> tuple[Session, bool]:
    """The session, and whether its workspace becomes the prefix."""
    if name:
        session = client.session(name)
        return session, not no_workspace and bool(session.info().workspace_root)
    if no_workspace:
        return client.open_session(None, target.chosen_model(model), target.chosen_key(key)), False
    return target.open_over(client, folder, model, key), True


def _answer(
    invocation: Invocation, session: Session, question: str, over_files: bool, settings: DecodeSettings
) -> None:
    from sessiond.client.cli.progress import PrefillBar
    from sessiond.client.requests import prefix_input

    prefix = prefix_input(workspace=True) if over_files else None
    with (
        PrefillBar(session, show=not invocation.json) as bar,
        session.complete(messages=[("user", question)], mode="replace", prefix=prefix, **settings) as turn,
    ):
        if invocation.json:
            print_json(turn)
        else:
            print_text(turn, bar)


def print_json(turn: Stream[CompleteResponse]) -> None:
    from sessiond.client.cli.output import say_message

    for event in turn:
        say_message(event)


def print_text(turn: Stream[CompleteResponse], bar: PrefillBar) -> None:
    from sessiond.client.cli.output import on_terminal, say

    prefix: PrefixStatus | None = None
    ended = True  # whether the cursor stands at the start of a line
    for event in turn:
        if event.HasField("prefix_status"):
            prefix = event.prefix_status
        elif event.HasField("chunk"):
            bar.stop()
            if event.chunk.text:
                say(event.chunk.text, end="")
                ended = event.chunk.text.endswith("\n")
            if event.chunk.HasField("summary"):
                if not ended:
                    say()
                    ended = True
                if on_terminal(sys.stderr):
                    _print_summary(event, prefix)
    if not ended:
        say()


def _print_summary(last: CompleteResponse, prefix: PrefixStatus | None) -> None:
    """One line of what the turn cost, for a person."""
    from sessiond.client.cli.numbers import count, duration

    summary = last.chunk.summary
    parts: list[str] = []
    if prefix is not None:
        parts.append(f"{count(prefix.reused_tokens)} tokens reused")
        if prefix.restored_tokens:
            parts.append(f"{count(prefix.restored_tokens)} restored")
        parts.append(f"{count(prefix.prefilled_tokens)} computed")
    parts.append(f"first token after {duration(summary.timings.first_token_ms)}")
    parts.append(f"{count(summary.generated_tokens)} tokens in {duration(summary.timings.total_ms)}")
    click.secho(" · ".join(parts), dim=True, err=True)
