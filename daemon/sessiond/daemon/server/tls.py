"""TLS for the TCP port: the daemon's certificate and key, and the authority whose clients come in."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc

from sessiond.daemon.server.listen import ListenError

MAX_BYTES = 1 << 20
"""Of a certificate or a key. A longer file is something else."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files. Without `client_ca` clients need no certificate."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """What the settings say of TLS; None if nothing. Raises ListenError where half of it is missing."""
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise ListenError("TLS needs a certificate and its key: tls_cert and tls_key")
    return TlsFiles(cert, key, client_ca)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """What a port with TLS is opened with. Raises ListenError for files that will not do, a key that others may read
    among them.
    """
    key = _read(files.key, "the TLS key", secret=True)
    cert = _read(files.cert, "the TLS certificate")
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(files.client_ca, "the TLS authority of clients")
    _try(files)
    return grpc.ssl_server_credentials([(key, cert)], client_ca, require_client_auth=client_ca is not None)


def _read(path: Path, what: str, *, secret: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode):
                raise ListenError(f"{what} is not a plain file: {path}")
            if secret and told.st_uid not in {0, os.geteuid()}:
                raise ListenError(f"{what} belongs to another user: {path}")
            if secret and told.st_mode & 0o027:
                raise ListenError(f"others can read or write {what}: {path} (chmod 600 closes it)")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ListenError(f"{what} cannot be read: {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ListenError(f"{what} is longer than {MAX_BYTES} bytes: {path}")
    return data


def _try(files: TlsFiles) -> None:
    # gRPC takes whatever it is given, and refuses every connection afterwards.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, password="")
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
    except (ssl.SSLError, ValueError) as error:
        raise ListenError(f"the TLS files do not fit: {files.cert}, {files.key}: {error}") from error
