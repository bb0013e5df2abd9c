"""From settings to a running daemon, and from its end to an exit status."""

from __future__ import annotations

import asyncio
import os
import tomllib
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from sessiond.daemon.logs import set_up_logs
from sessiond.daemon.private import UMASK, NotPrivate, private_folder
from sessiond.daemon.server.app import App
from sessiond.daemon.server.listen import ListenError, check_tcp, only_one, prepare_socket
from sessiond.daemon.server.tcp import tcp_port
from sessiond.daemon.settings import Settings, load_settings
from sessiond.v1.errors import SessiondError


def run(flags: dict[str, Any], config_file: Path | None) -> int:
    """Serve. The exit status: 0 after a stop, 1 for what went wrong, 2 for wrong settings."""
    os.umask(UMASK)
    try:
        settings = load_settings(flags, config_file)
        settings.socket = prepare_socket(settings.socket)
        tcp_port(settings)
        if settings.metrics:
            check_tcp(settings.metrics, settings.token)
        private_folder(settings.state_dir.absolute(), "the state folder", close=True)
    except (
        *(ValidationError, tomllib.TOMLDecodeError, FileNotFoundError),
        *(ListenError, NotPrivate),
    ) as error:
        click.echo(f"sessiond: {error}", err=True)
        return 2
    set_up_logs(settings.log_format, settings.log_level)
    try:
        with only_one(settings.socket):
            asyncio.run(_serve(settings))
    except (ListenError, SessiondError, OSError, RuntimeError) as error:
        click.echo(f"sessiond: {error}", err=True)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    await App(settings).run()
