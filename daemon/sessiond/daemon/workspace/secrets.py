"""Files that must not reach a model: by their names, and by what stands in them.

A match leaves the whole file out. The answer names the kind of secret, never the secret.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

_NAMES = """
    .env* *.env .netrc _netrc .pgpass .my.cnf .npmrc .pypirc .dockercfg .htpasswd .git-credentials
    credentials* .credentials* kubeconfig* .s3cfg .boto .vault-token
    client_secret*.json service-account*.json service_account*.json
    secrets.json secrets.yaml secrets.yml secrets.toml secrets.ini secrets.txt secrets.properties secrets.xml
    *.pem *.key *.ppk *.p8 *.p12 *.pfx *.jks *.keystore *.kdbx *.ovpn
    id_rsa* id_dsa* id_ecdsa* id_ed25519* *.tfstate *.tfstate.* *.tfvars
    """.split()
_NAME = re.compile("|".join(fnmatch.translate(name) for name in _NAMES))
_HARMLESS = frozenset({".env.example", ".env.sample", ".env.template", ".env.dist"})


def secret_name(name: str) -> bool:
    """Whether a file of this name (without its folders) is there to hold a secret."""
    lower = name.lower()
    return lower not in _HARMLESS and _NAME.match(lower) is not None


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of secret."""

    what: str
    needles: tuple[str, ...]
    """One of them stands in every match: a search for plain text is a hundred times faster than `pattern`."""
    pattern: re.Pattern[str]
    """Every repetition has an upper bound, so the time is linear in the text whatever the text is."""


def _kind(what: str, needles: tuple[str, ...], pattern: str) -> _Kind:
    return _Kind(what, needles, re.compile(r"(?<![A-Za-z0-9])(?:" + pattern + ")"))


_KINDS = (
    _kind("a private key", ("PRIVATE KEY",), r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"),
    _kind("a private key", ("PuTTY-User-Key-File-",), r"PuTTY-User-Key-File-[0-9]: "),
    _kind("a private key", ("AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[0-9A-Z]{50}"),
    _kind("an AWS key", ("AKIA", "ASIA"), r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),
    _kind(
        "an AWS key",
        ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        r"(?i:aws_secret_access_key)[\"']?[ \t]{0,8}[=:][ \t]{0,8}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
    ),
    _kind("a GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{36}"),
    _kind("a GitHub token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{22}"),
    _kind("a GitLab token", ("glpat-",), r"glpat-[A-Za-z0-9_-]{20}"),
    _kind("a Slack token", ("xox",), r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10}"),
    _kind("a Slack token", ("xapp-",), r"xapp-[0-9]-[A-Z0-9]{8}"),
    _kind("a Slack address", ("hooks.slack.com",), r"hooks\.slack\.com/(?:services|workflows)/[A-Z0-9]{8}"),
    _kind("a Google key", ("AIza",), r"AIza[0-9A-Za-z_-]{35}"),
    _kind("a Google token", ("ya29.",), r"ya29\.[0-9A-Za-z_-]{20}"),
    _kind("a Google secret", ("GOCSPX-",), r"GOCSPX-[0-9A-Za-z_-]{28}"),
    _kind("a Stripe key", ("_live_", "_test_"), r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16}"),
    _kind("a Stripe secret", ("whsec_",), r"whsec_[0-9A-Za-z]{32}"),
    _kind("a model provider's key", ("sk-",), r"sk-(?:proj|svcacct|admin|ant|or|lf|None)-[A-Za-z0-9_-]{20}"),
    _kind("a model provider's key", ("sk-",), r"sk-[A-Za-z0-9]{32}"),
    _kind("a Hugging Face token", ("hf_",), r"hf_[A-Za-z0-9]{30}"),
    _kind("an npm token", ("npm_", "_authToken"), r"npm_[A-Za-z0-9]{36}|_authToken=[A-Za-z0-9_-]{20}"),
    _kind("a PyPI token", ("pypi-AgE",), r"pypi-AgE[A-Za-z0-9_-]{30}"),
    _kind("a SendGrid key", ("SG.",), r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _kind("an Azure key", ("AccountKey=",), r"AccountKey=[A-Za-z0-9+/]{86}=="),
)


def secret_content(text: str) -> str | None:
    """What kind of secret stands in the text; None if none was found."""
    for kind in _KINDS:
        if any(needle in text for needle in kind.needles) and kind.pattern.search(text):
            return kind.what
    return None
