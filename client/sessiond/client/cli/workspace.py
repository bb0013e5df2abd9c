"""`sessionctl workspace`, `pin` and `unpin`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from sessiond.v1.workspace_service_pb2 import GetWorkspaceResponse, WorkspaceSegment

_dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False),
    help="The workspace. [default: the current folder]",
)


@click.command()
@json_option
@click.argument("root", required=False, type=click.Path(exists=True, file_okay=False))
@pass_invocation
def workspace(invocation: Invocation, root: str | None) -> None:
    """Show what the prefix of a folder holds, in its order, and what an edit would cost.

    It is that of the newest session over ROOT, the current folder unless given. In a pipe the columns are parted by
    tabs: tokens, tokens that an edit costs, pinned and buffered, path.
    """
    from sessiond.client.cli.output import say, say_message, say_table

    folder = _folder(root)
    with invocation.connected() as client:
        told = client.workspace(folder).get()
    if invocation.json:
        say_message(told)
        return
    for line in _facts(folder, told):
        say(line)
    say_table(
        ("TOKENS", "EDIT COST", "STATE", "SEGMENT"), [_row(each) for each in told.segments], right=(0, 1)
    )
    for line in _left_out(told):
        say(line)


@click.command()
@_dir_option
@json_option
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@pass_invocation
def pin(invocation: Invocation, folder: str | None, paths: tuple[str, ...]) -> None:
    """Put files into the prefix, whatever the order and the budget say.

    Each PATH is relative to the workspace, or absolute and in it. A pin holds until it is taken back or the daemon ends.
    """
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import workspace_service_pb2

    root = _folder(folder)
    beneath = _beneath(root, paths)
    with invocation.connected() as client:
        client.workspace(root).pin(*beneath)
    if invocation.json:
        say_message(workspace_service_pb2.PinFilesResponse())
    else:
        say(f"pinned: {', '.join(beneath)}")


@click.command()
@_dir_option
@json_option
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@pass_invocation
def unpin(invocation: Invocation, folder: str | None, paths: tuple[str, ...]) -> None:
    """Take pins back.

    Each PATH is relative to the workspace, or absolute and in it. What is not pinned is no error.
    """
    from sessiond.client.cli.output import say, say_message
    from sessiond.v1 import workspace_service_pb2

    root = _folder(folder)
    beneath = _beneath(root, paths)
    with invocation.connected() as client:
        client.workspace(root).unpin(*beneath)
    if invocation.json:
        say_message(workspace_service_pb2.UnpinFilesResponse())
    else:
        say(f"not pinned: {', '.join(beneath)}")


def _folder(given: str | None) -> Path:
    return Path(given or ".").resolve()


def _beneath(root: Path, paths: Sequence[str]) -> list[str]:
    """The paths as the daemon knows them. One that is none in the workspace is left to it to refuse."""
    given = [Path(path) for path in paths]
    return [
        (path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path).as_posix()
        for path in given
    ]


def _facts(root: Path, told: GetWorkspaceResponse) -> list[str]:
    from sessiond.client.cli.explain_facts import edit_cost_sentence
    from sessiond.client.cli.numbers import count
    from sessiond.client.cli.terminal_text import clean_line

    edit_cost = edit_cost_sentence(told)
    tokens = sum(_tokens(each) for each in told.segments)
    return [
        f"{root}: {count(len(told.segments))} segments, {count(tokens)} tokens",
        f"watcher: {clean_line(told.watcher_state)}",
        f"keep-hot: {clean_line(told.keep_hot_state)}",
        *([f"edit cost: {edit_cost}"] if edit_cost else []),
    ]


def _row(each: WorkspaceSegment) -> tuple[str, str, str, str]:
    from sessiond.client.cli.numbers import count

    states = (("pinned", each.pinned), ("buffered", each.buffered))
    return (
        count(_tokens(each)),
        count(round(each.edit_cost_tokens)),
        ", ".join(word for word, holds in states if holds),
        each.segment.path or each.segment.id or each.segment.kind,
    )


def _tokens(each: WorkspaceSegment) -> int:
    return each.segment.token_end - each.segment.token_start


def _left_out(told: GetWorkspaceResponse) -> list[str]:
    from sessiond.client.cli.explain_facts import left_out_rows
    from sessiond.client.cli.numbers import count

    return [f"left out, {row.reason}: {count(row.files)}" for row in left_out_rows(told.left_out)]
