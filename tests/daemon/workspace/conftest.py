"""What several tests of the workspace share."""

from __future__ import annotations

import pytest

_X = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbCdEfGhIjKlMnOpQrStUvWxYz0123456789ABCDEFGHIJKLMNOPQR"

# Built from halves, so that no scanner takes this file for what it is about.
_SECRETS = [
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----",
    "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "-----BEGIN " + "EC PRIVATE KEY-----",
    "-----BEGIN " + "ENCRYPTED PRIVATE KEY-----",
    "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----",
    "PuTTY-User-Key-" + "File-3: ssh-ed25519",
    "AK" + "IAIOSFODNN7EXAMPLE",
    "AS" + "IAIOSFODNN7EXAMPLE",
    "aws_secret_access_" + "key = " + _X[:40],
    "export AWS_SECRET_ACCESS_" + 'KEY="' + _X[:38] + '+/"',
    *(f"gh{letter}_" + _X[:36] for letter in "pousr"),
    "github_" + "pat_" + _X[:22] + "_" + _X[:59],
    "glpat" + "-" + _X[:20],
    "xox" + "b-123456789012-123456789012-" + _X[:24],
    "xox" + "p-123456789012-123456789012",
    "https://hooks.slack" + ".com/services/T00000000/B00000000/" + _X[:24],
    "AI" + "za" + _X[:35],
    "ya" + "29." + _X[:60],
    "sk_" + "live_" + _X[:24],
    "rk_" + "live_" + _X[:24],
    "sk_" + "test_" + _X[:24],
    "sk" + "-" + _X[:48],
    "sk-" + "proj-" + _X[:48],
    "sk-" + "ant-api03-" + _X[:60],
    "hf" + "_" + _X[:34],
    "npm" + "_" + _X[:36],
    "SG" + "." + _X[:22] + "." + _X[:43],
    "AccountKey" + "=" + (_X + "A")[:86] + "==",
]


@pytest.fixture(scope="session")
def planted_secrets() -> list[str]:
    """One of each kind that must never reach a segment."""
    return _SECRETS
