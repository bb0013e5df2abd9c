"""TLS to a daemon over TCP: whom we trust, and who we are. Importing this loads nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.v1.errors import invalid

MAX_BYTES = 1 << 20
"""Of a PEM file. A longer one is something else."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files. `ca` has the authorities that may have signed the daemon's certificate; without it those count
    that gRPC brings along. `cert` and `key` are for a daemon that asks its clients for a certificate.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def read(self) -> Credentials:
        """What the files hold. Raises InvalidInput, the file named."""
        if (self.cert is None) != (self.key is None):
            raise invalid("tls", "a certificate and its key go together")
        return Credentials(_read("tls.ca", self.ca), _read("tls.cert", self.cert), _read("tls.key", self.key))


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is in the files; None where none was given."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)


def _read(name: str, path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise invalid(name, f"cannot read {os.fspath(path)}: {error.strerror}") from error
    if len(data) > MAX_BYTES or b"-----BEGIN " not in data:
        raise invalid(name, f"{os.fspath(path)} is no PEM file")
    return data
