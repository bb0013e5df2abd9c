"""Authorities and certificates for the tests, made anew by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as paths of PEM files."""

    cert: Path
    key: Path


def authority(folder: Path, name: str) -> Pair:
    """One that signs for itself."""
    return _made(folder, name, "-x509", "-addext", "basicConstraints=critical,CA:TRUE")


def signed(folder: Path, name: str, by: Pair) -> Pair:
    """A certificate for this machine's loopback, signed by an authority."""
    names = ("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    return _made(folder, name, "-x509", "-CA", str(by.cert), "-CAkey", str(by.key), *names)


def _made(folder: Path, name: str, *flags: str) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    where = ("-keyout", str(pair.key), "-out", str(pair.cert), "-days", "2")
    subprocess.run(
        ["openssl", "req", *curve, *where, "-subj", f"/CN={name}", *flags], check=True, capture_output=True
    )
    pair.key.chmod(0o600)
    return pair
