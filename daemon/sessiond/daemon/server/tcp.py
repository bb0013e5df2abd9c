"""The TCP port, if there is to be one: on loopback or with TLS, and always behind a token."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from sessiond.daemon.server.listen import ListenError, check_tcp
from sessiond.daemon.server.tls import server_credentials, tls_files
from sessiond.daemon.settings import Settings


@dataclass(frozen=True, slots=True)
class TcpPort:
    """Where to listen, and with what; without credentials there is no TLS."""

    address: str
    credentials: grpc.ServerCredentials | None

    def open(self, server: grpc.aio.Server) -> int:
        """Listen; the number of the port. Raises RuntimeError if that is not possible."""
        if self.credentials is None:
            return server.add_insecure_port(self.address)
        return server.add_secure_port(self.address, self.credentials)


def tcp_port(settings: Settings) -> TcpPort | None:
    """What the settings ask for; None is no TCP. Raises ListenError for what would let others in."""
    files = tls_files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if not settings.tcp:
        if files is not None or settings.tcp_beyond_loopback:
            raise ListenError("TLS and --tcp-beyond-loopback are for TCP, and --tcp was not given")
        return None
    beyond = settings.tcp_beyond_loopback
    address = check_tcp(settings.tcp, settings.token, beyond_loopback=beyond, tls=files is not None)
    return TcpPort(address, None if files is None else server_credentials(files))
