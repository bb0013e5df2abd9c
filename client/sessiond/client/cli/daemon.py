"""`sessionctl status`, `logs` and `stop`: the daemon itself. None of them starts one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessiond.client.sync import Client
    from sessiond.v1.model_service_pb2 import GetRuntimeResponse

NOT_RUNNING = "NOT_RUNNING"

_FOLLOW_SECONDS = 0.3
_TIMEOUT_SECONDS = 10.0
_TAIL_BYTES = 4 * 1024 * 1024  # where the last lines are looked for


@click.command()
@json_option
@click.pass_context
@pass_invocation
def status(invocation: Invocation, ctx: click.Context) -> None:
    """Say whether the daemon runs, with what, what memory it takes, and what it did. The exit status is 0 if it serves, else 1."""
    from sessiond.client.cli.activity_view import activity_lines
    from sessiond.client.cli.output import as_dict, say, say_json
    from sessiond.client.cli.runtime_view import runtime_lines

    with invocation.client() as client:
        told, runtime = _facts(client)
    if invocation.json:
        say_json({**told, "runtime": None if runtime is None else as_dict(runtime)})
    else:
        lines = [(name.replace("_", " "), _plain(value)) for name, value in told.items()]
        if runtime is not None:
            lines += runtime_lines(runtime)
            lines += activity_lines(runtime.activity) if runtime.HasField("activity") else ()
        for name, line in lines:
            say(f"{name + ':' if name else '':<12} {line}")
    if told["health"] != "SERVING":
        ctx.exit(1)


@click.command()
@click.option(
    "-n", "lines", type=click.IntRange(min=0), default=50, show_default=True, help="Lines from the end."
)
@click.option("-f", "follow", is_flag=True, help="Go on with what is written from now on.")
@json_option
@pass_invocation
def logs(invocation: Invocation, lines: int, follow: bool) -> None:
    """Show the log of a daemon that sessionctl started.

    A daemon started otherwise writes its log to standard error.
    """
    from sessiond.client.cli.output import say, say_json
    from sessiond.client.daemon_process import log_path

    for line in _lines(log_path(), lines, follow):
        if invocation.json:
            say_json({"line": line})
        else:
            say(line)


@click.command()
@json_option
@pass_invocation
def stop(invocation: Invocation) -> None:
    """End the daemon.

    Waits until it has ended, for 30 seconds at most. Where none runs there is nothing to do.
    """
    from sessiond.client.cli.output import say, say_json
    from sessiond.client.cli.progress import spinner
    from sessiond.client.daemon_lock import stop_daemon

    endpoint = invocation.endpoint()
    if endpoint.socket is None:
        raise click.UsageError("a daemon over TCP is ended on its own machine")
    with spinner("ending the daemon", show=not invocation.json):
        pid = stop_daemon(endpoint.socket)
    if invocation.json:
        say_json({"stopped": pid is not None, "pid": pid})
    else:
        say(f"no daemon runs on {endpoint}" if pid is None else f"the daemon has ended: process {pid}")


def _facts(client: Client) -> tuple[dict[str, Any], GetRuntimeResponse | None]:
    """What can be said of the daemon; null is what it does not tell, or not now. And how it runs, if it does."""
    from sessiond.client.daemon_lock import running_pid
    from sessiond.client.daemon_process import log_path
    from sessiond.v1.errors import SessionUnavailable

    socket = client.endpoint.socket
    facts: dict[str, Any] = {
        "health": NOT_RUNNING,
        "endpoint": str(client.endpoint),
        "pid": running_pid(socket) if socket else None,
        "version": None,
        "model": None,
        "sessions": None,
        "log_path": str(log_path()),
    }
    runtime = None
    try:
        facts["health"], version = client.health(timeout=_TIMEOUT_SECONDS)
        facts["version"] = version or None
        facts["sessions"] = len(client.sessions(timeout=_TIMEOUT_SECONDS))
        # Not GetModel, which would load one.
        loaded = [model.name for model in client.models(timeout=_TIMEOUT_SECONDS) if model.is_loaded]
        facts["model"] = ", ".join(loaded) or None
        runtime = client.runtime(timeout=_TIMEOUT_SECONDS)
    except SessionUnavailable:
        pass  # it does not run, or is still starting: the facts so far say which
    return facts, runtime


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def _lines(path: Path, count: int, follow: bool) -> Iterator[str]:
    """The last lines of a file, and with `follow` what comes after them, also in a new file in its place."""
    place, offset = None, 0
    if path.exists():
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            start = file.tell()
            told = file.read()
            place, offset = path.stat().st_ino, file.tell()
        if follow:  # a line that is not whole yet comes with its rest
            whole = told.rfind(b"\n") + 1
            told, offset = told[:whole], start + whole
        last = told.decode("utf-8", "replace").splitlines()
        yield from last[len(last) - count if count < len(last) else 0 :]
    while follow:
        time.sleep(_FOLLOW_SECONDS)
        if not path.exists():
            continue
        found = path.stat()
        if found.st_ino != place or found.st_size < offset:
            place, offset = found.st_ino, 0
        with path.open("rb") as file:
            file.seek(offset)
            told = file.read()
        whole = told.rfind(b"\n") + 1
        offset += whole
        yield from told[:whole].decode("utf-8", "replace").splitlines()
