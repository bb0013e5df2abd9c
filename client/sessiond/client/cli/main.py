"""`sessionctl`: the global options, the commands loaded one by one, and the exit statuses.

Status 0 is success, 1 an error of the contract, 2 wrong usage, 130 an interrupt.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from sessiond.client.cli.catalog import CATALOG
from sessiond.client.cli.invocation import Invocation

INTERRUPTED = 130


class _Commands(click.Group):
    """Loads a command when it is used, and turns what it raises into an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(CATALOG)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = CATALOG.get(cmd_name)
        if entry is None:
            return None
        found = getattr(importlib.import_module(f"sessiond.client.cli.{entry.module}"), entry.attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in CATALOG.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            from sessiond.v1.errors import SessiondError  # only now: `--help` needs none

            if not isinstance(error, SessiondError | TimeoutError):
                raise
            from sessiond.client.cli.output import report_error

            report_error(error, as_json=ctx.ensure_object(Invocation).json)
            ctx.exit(1)


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib import metadata

    try:
        version = metadata.version("sessiond")
    except metadata.PackageNotFoundError:
        version = "unknown (not installed)"
    click.echo(f"sessionctl {version}")
    ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--socket", metavar="PATH", help="The daemon's Unix socket.")
@click.option("--address", metavar="HOST:PORT", help="A daemon over TCP, instead of a socket.")
@click.option(
    "--token", metavar="TOKEN", help="The token that the daemon asks for. [default: SESSIOND_TOKEN]"
)
@click.option("--tls", is_flag=True, help="Speak TLS to --address. The options below switch it on too.")
@click.option(
    "--tls-ca", metavar="FILE", help="The authority of the daemon's certificate. [default: SESSIOND_TLS_CA]"
)
@click.option("--tls-cert", metavar="FILE", help="Our own certificate, where the daemon asks for one.")
@click.option("--tls-key", metavar="FILE", help="The key of our own certificate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--no-start", is_flag=True, help="Start no daemon where none runs.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def cli(
    ctx: click.Context,
    socket: str | None,
    address: str | None,
    token: str | None,
    tls: bool,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    as_json: bool,
    no_start: bool,
) -> None:
    """Speak to sessiond, the daemon that keeps the stable part of a prompt hot.

    The daemon is started where none runs. Its socket is --socket, or else SESSIOND_SOCKET, or else `socket` in
    client.toml of the user's configuration folder, or else sessiond.sock in the user's runtime folder.
    """
    if socket and address:
        raise click.UsageError("give either --socket or --address")
    files = (tls_ca, tls_cert, tls_key)
    secure = tls or any(files)
    if secure and not address:
        raise click.UsageError("TLS is for --address")
    ctx.obj = Invocation(
        socket, address, token, tls=files if secure else None, json=as_json, start=not no_start
    )


def main() -> None:
    """The program `sessionctl`."""
    # Every failure of gRPC's reaches us as a status. What it logs besides goes to stderr, and would spoil --json.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        status = cli.main(prog_name="sessionctl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:  # what click makes of a KeyboardInterrupt; left alone, it would be status 1
        status = INTERRUPTED
    sys.exit(status)


if __name__ == "__main__":
    main()
