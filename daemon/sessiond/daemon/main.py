"""`sessiond`: the daemon's command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sessiond")
def cli() -> None:
    """Keeps the stable part of a workspace's prompt hot, so that an answer costs only its new suffix."""


@cli.command()
@click.option("--socket", type=click.Path(path_type=Path), help="Unix socket to listen on.")
@click.option("--tcp", metavar="HOST:PORT", help="Also listen on this loopback address; needs a token.")
@click.option(
    "--tcp-beyond-loopback",
    is_flag=True,
    default=None,
    help="Let --tcp be an address that other machines reach; needs TLS.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate of the TCP port, as PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The certificate's key, as PEM.")
@click.option(
    "--tls-client-ca",
    type=click.Path(path_type=Path),
    help="Only clients with a certificate that this authority signed come in over TCP.",
)
@click.option("--token", metavar="TOKEN", help="What clients must send. Better given as SESSIOND_TOKEN.")
@click.option(
    "--metrics", metavar="HOST:PORT", help="Metrics over HTTP on this loopback address; needs a token."
)
@click.option("--model", metavar="NAME|PATH", help="The default model.")
@click.option(
    "--model-dir",
    "model_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder with models, beside the usual places. May be given again.",
)
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the daemon keeps its own files.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A TOML file with settings.")
@click.option("--num-ctx", type=int, help="Window of sessions that leave it open, in tokens.")
@click.option("--kv-memory-mb", type=int, help="MiB that the cells of all workspaces may take together.")
@click.option("--memory-tier-mb", type=int, help="MiB of KV that may be kept beside the cells of each model.")
@click.option("--disk-tier-mb", type=int, help="MiB of KV that may be kept on the disk for all models.")
@click.option(
    "--measure/--no-measure", default=None, help="Time a new model once, to run it as fast as it can."
)
@click.option("--max-sessions", type=int, help="Sessions that may be open at once.")
@click.option("--max-message-bytes", type=int, help="The largest message that is taken.")
@click.option("--max-calls", type=int, help="Calls that may run at once, watchers among them.")
@click.option("--max-waiting-turns", type=int, help="Turns that may wait behind others of their sessions.")
@click.option("--max-waiting-turns-each", type=int, help="Turns that may wait on one session.")
@click.option(
    "--stall-timeout",
    "stall_timeout_s",
    type=float,
    help="Seconds that a client may take to send its request, and to take one part of an answer.",
)
@click.option("--stop-grace", "stop_grace_s", type=float, help="Seconds for running turns to end at SIGTERM.")
@click.option("--log-format", type=click.Choice(["auto", "console", "json"]), help="How the log is written.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
def serve(config_file: Path | None, **flags: Any) -> None:
    """Run in the foreground; log to standard error; end on SIGTERM with status 0.

    Every flag has a variable SESSIOND_... and a key in the TOML file, named as the flag: a flag wins over the
    variable, that over the file. Three names differ: SESSIOND_STALL_TIMEOUT_S, SESSIOND_STOP_GRACE_S, and
    SESSIOND_MODEL_DIRS, a list in JSON. --config has a variable only. Ready when the health service says SERVING.
    """
    # Imported here, so that --help and --version need none of it.
    from sessiond.daemon.serving import run

    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    sys.exit(run(given, config_file))


def main() -> None:
    """The entry point."""
    cli(prog_name="sessiond")
