"""Where the daemon is, and with which token it is spoken to: the one rule for library and command line.

What is given wins over the environment, the environment over `client.toml`, that over the default.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from sessiond.client.settings import read_settings
from sessiond.client.tls import Credentials, Tls
from sessiond.v1.errors import PermissionDenied, invalid

SOCKET_VARIABLE = "SESSIOND_SOCKET"
TOKEN_VARIABLE = "SESSIOND_TOKEN"  # noqa: S105 - the name of a variable, not a secret

TLS_CA_VARIABLE = "SESSIOND_TLS_CA"

# What fits into `sockaddr_un.sun_path` with its closing NUL. gRPC answers a longer one with an unclear error.
MAX_SOCKET_BYTES = 107

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A daemon's address. Either `socket` or `address` is set."""

    socket: Path | None
    address: str
    token: str = field(repr=False)
    tls: Credentials | None = None
    """With what an address is spoken to; None is without TLS."""

    @property
    def target(self) -> str:
        """The address as gRPC names it."""
        if self.socket is None:
            return f"dns:///{self.address}"
        # gRPC reads a target as a URI and would take `%`, `?` and `#` in a path for its own.
        return f"unix:{quote(os.fsencode(self.socket))}"

    def __str__(self) -> str:
        return str(self.socket or self.address)


def resolve_endpoint(
    socket: str | os.PathLike[str] | None = None,
    address: str | None = None,
    token: str | None = None,
    *,
    tls: Tls | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """The daemon to speak to: a Unix socket's path, or `host:port` if `address` is given, with TLS if `tls` is given or
    SESSIOND_TLS_CA names an authority.

    Raises InvalidInput for a path of more than 107 bytes, a malformed address, a token that no header can carry, both a
    socket and an address, TLS for a socket, or a TLS file that will not do; PermissionDenied if the default socket lies
    in another user's folder.
    """
    token = environ.get(TOKEN_VARIABLE, "") if token is None else token
    if not all("!" <= letter <= "~" for letter in token):
        raise invalid("token", "only visible ASCII characters can be sent")
    if address:
        if socket:
            raise invalid("address", "give either a socket or an address")
        if not _ADDRESS.fullmatch(address):
            raise invalid("address", f"{address!r} is not of the form host:port")
        named = environ.get(TLS_CA_VARIABLE)
        if named and (tls is None or tls.ca is None):
            tls = replace(tls or Tls(), ca=named)
        return Endpoint(None, address, token, tls.read() if tls is not None else None)
    if tls is not None:
        raise invalid("tls", "TLS is for an address; a socket is guarded by its folder")
    told = os.fspath(socket or "") or environ.get(SOCKET_VARIABLE) or read_settings().socket
    path = Path(told).expanduser().absolute() if told else _default_socket()
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_BYTES:
        raise invalid(
            "socket",
            f"the path has {length} bytes, and a Unix socket's may have {MAX_SOCKET_BYTES}: {path}",
        )
    return Endpoint(path, "", token)


def _default_socket() -> Path:
    import platformdirs

    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR platformdirs warns that it falls back to a folder below the temporary one.
        warnings.simplefilter("ignore")
        folder = platformdirs.user_runtime_path("sessiond")
    # That folder may stand where everybody can write: whoever made it first would read our prompts.
    for place in (folder, folder.parent):
        try:
            owner = place.lstat().st_uid
        except FileNotFoundError:
            continue
        if owner not in {os.getuid(), 0}:
            raise PermissionDenied(f"the folder of the default socket belongs to another user: {place}")
    return folder / "sessiond.sock"
