"""`sessionctl support`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sessiond.client.cli.invocation import Invocation, json_option, pass_invocation


@click.command()
@click.option(
    "--output",
    metavar="FILE",
    help="The file to write, which must not exist. [default: sessiond-support-{time}.tar.gz here]",
)
@click.option(
    "--log",
    metavar="FILE",
    help="The log to take the end of. [default: that of a daemon that sessionctl started]",
)
@json_option
@pass_invocation
def support(invocation: Invocation, output: str | None, log: str | None) -> None:
    """Write a bundle for whoever helps, without source text, prompts, paths or secrets.

    Versions, settings, figures, metrics, the machine, and the end of the log without anything that could be content. It
    starts no daemon; where none runs, what only a daemon knows is missing. Nothing is sent anywhere.
    """
    from sessiond.client.cli.numbers import size
    from sessiond.client.cli.output import say, say_json
    from sessiond.client.daemon_process import log_path
    from sessiond.client.support.bundle import write_bundle
    from sessiond.client.support.collect import collect

    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    path = Path(output or f"sessiond-support-{stamp}.tar.gz").absolute()
    with invocation.client() as client:
        found = collect(client, Path(log) if log is not None else log_path())
    written = write_bundle(path, found.files, int(now))
    if invocation.json:
        say_json(
            {"path": str(path), "size_bytes": written, "files": sorted(found.files), "missing": found.missing}
        )
        return
    say(f"{path}: {size(written)}, readable for you alone")
    for name, why in found.missing.items():
        say(f"missing: {name} ({why})")
