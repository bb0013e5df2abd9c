"""What the global options said, and the connection that a command works over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sessiond.client.endpoint import Endpoint
    from sessiond.client.sync import Client
    from sessiond.client.tls import Tls

F = TypeVar("F", bound=Callable[..., Any])


class Invocation:
    """The global options. `json` may also come after the command."""

    # Written out, because importing `dataclasses` would show in the time that `--help` takes.
    def __init__(
        self,
        socket: str | None = None,
        address: str | None = None,
        token: str | None = None,
        *,
        tls: tuple[str | None, str | None, str | None] | None = None,
        json: bool = False,
        start: bool = True,
    ) -> None:
        self.socket = socket
        self.address = address
        self.token = token
        self.tls = tls
        self.json = json
        self.start = start

    def endpoint(self) -> Endpoint:
        """The daemon's endpoint. Raises as `resolve_endpoint`."""
        from sessiond.client.endpoint import resolve_endpoint

        return resolve_endpoint(self.socket, self.address, self.token, tls=self._secure())

    def client(self) -> Client:
        """A client that starts nothing."""
        from sessiond.client.sync import Client

        return Client(self.socket, self.address, self.token, tls=self._secure())

    def _secure(self) -> Tls | None:
        from sessiond.client.tls import Tls

        return None if self.tls is None else Tls(*self.tls)

    @contextlib.contextmanager
    def connected(self) -> Generator[Client, None, None]:
        """A client whose daemon serves: where none runs on the socket, it is started, unless --no-start is given."""
        with self.client() as client:
            if self.start and client.endpoint.socket is not None and not client.healthy():
                from sessiond.client.cli.progress import spinner
                from sessiond.client.daemon_process import ensure_running

                with spinner("starting the daemon", show=not self.json):
                    ensure_running(client)
            yield client


pass_invocation = click.make_pass_decorator(Invocation)


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    invocation = context.find_object(Invocation)
    if value and invocation is not None:
        invocation.json = True


def json_option(command: F) -> F:
    """The option --json after a command: the same as before it."""
    return click.option("--json", is_flag=True, expose_value=False, callback=_set_json, help="Print JSON.")(
        command
    )
