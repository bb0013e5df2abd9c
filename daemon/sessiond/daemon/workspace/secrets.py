"""What in a text must not reach a model: keys, tokens and passwords, by the forms that their makers gave them.

A match leaves the whole file out. The answer names the kind of secret, never the secret. A secret that has no form of
its own (`password = "…"`) is not seen here; files that are made to hold such are known by their names.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sessiond.daemon.workspace.passwords import is_no_password


def _counts(_found: re.Match[str]) -> bool:
    return True


def _has_password(found: re.Match[str]) -> bool:
    return not is_no_password(found["password"], found.groupdict().get("user") or "")


def _has_basic_password(found: re.Match[str]) -> bool:
    """Whether what was found is `user:password` in base64."""
    coded = found["basic"]
    try:
        user, colon, password = base64.b64decode(coded + "=" * (-len(coded) % 4)).decode().partition(":")
    except ValueError:
        return False
    return colon != "" and (user + password).isprintable() and not is_no_password(password, user)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of secret."""

    what: str
    needles: tuple[str, ...]
    """One of them stands in every match: a search for plain text is a hundred times faster than `pattern`."""
    pattern: re.Pattern[str]
    """Every repetition has an upper bound, so the time is linear in the text whatever the text is."""
    counts: Callable[[re.Match[str]], bool] = _counts
    """Whether a match is a secret, where its form alone does not say so."""

    def stands_in(self, text: str) -> bool:
        """Whether there is one."""
        return any(needle in text for needle in self.needles) and any(
            self.counts(found) for found in self.pattern.finditer(text)
        )


_START = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[abefnrtv0])|(?<=%[0-9A-Fa-f]{2})"
    r"|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
)
"""Behind no letter and no digit; the `n` of an escaped line break is none."""


def _text(what: str, needles: str, pattern: str, counts: Callable[[re.Match[str]], bool] = _counts) -> _Kind:
    """One whose form is plain enough to be looked for anywhere, also within a word."""
    return _Kind(what, tuple(needles.split()), re.compile(pattern), counts)


def _token(what: str, needles: str, pattern: str, counts: Callable[[re.Match[str]], bool] = _counts) -> _Kind:
    """One that begins where no word goes on."""
    return _text(what, needles, f"{_START}(?:{pattern})", counts)


def _prefixed(what: str, runs: Mapping[str, str]) -> _Kind:
    """One whose every form is a fixed beginning and what follows there."""
    return _token(what, " ".join(runs), "|".join(re.escape(start) + run for start, run in runs.items()))


def _in_base64(text: str) -> list[str]:
    """What stands in base64 wherever this text does, at each of the three places where it may begin."""
    forms: list[str] = []
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + text.encode()).decode()
        first = -(-before * 8 // 6)
        forms.append(coded[first : (before + len(text)) * 8 // 6])
    return forms


_PEM = r"-{4,5} ?BEGIN [A-Za-z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
_PEM_IN_BASE64 = _in_base64("PRIVATE KEY")
_KEY_BODY = r"""
    MII[A-Za-z0-9+/]{3}IBAAK                                # PKCS#1
    | MII[A-Za-z0-9+/]{3}IBADANBgkqhkiG9w0BAQEFAAS          # PKCS#8: RSA
    | MI[GH][A-Za-z0-9+/]AgEAMB[AM]GByqGSM49                # PKCS#8: elliptic curves
    | MHcCAQEEI | MIGkAgEBBD | MIHcAgEBBE                          # SEC 1
    | MC4CAQAwBQYDK2VwBCIE                                  # PKCS#8: Ed25519
    | b3BlbnNzaC1rZXktdjEA                                  # OpenSSH
"""
_QUOTE = r"""\\{0,3}["'`]"""
"""As it stands in a program, and in a program's text within another."""
_IS_QUOTED = rf"{_QUOTE}\s{{0,8}}:\s{{0,8}}{_QUOTE}"
"""What stands between a name and its text in JSON."""
_AWS_NAME = rf"(?i:secret_?(?:access_?)?key)(?:{_QUOTE})?[ \t]{{0,8}}(?:=>|:=|[=:>])[ \t]{{0,8}}(?:{_QUOTE})?"
_ADDRESS = r":(?:\\{0,3}/){2}(?P<user>[^\s/?#@:\\\"'`<>]{0,128}):(?P<password>[^\s/?#\\\"'`<>]{1,256})@(?!sha(?:256|512):)"
_GAP = r"(?:\\[nrt]|[\s#]){1,12}"
"""Between two words of one statement."""
_SERVICES = {
    "gsk_": "[A-Za-z0-9]{48}",
    "xai-": "[A-Za-z0-9]{64}",
    "r8_": "[A-Za-z0-9]{37}",
    "pplx-": "[A-Za-z0-9]{40}",
    "nvapi-": "[A-Za-z0-9_-]{60}",
    "ABSK": "[A-Za-z0-9+/]{100}",
    "amzn.mws.": "[0-9a-f]{8}-",
    "dop_v1_": "[a-f0-9]{64}",
    "doo_v1_": "[a-f0-9]{64}",
    "shpat_": "[a-fA-F0-9]{32}",
    "shpss_": "[a-fA-F0-9]{32}",
    "dapi": "[a-f0-9]{32}(?![0-9A-Za-z])",
    "dckr_pat_": "[A-Za-z0-9_-]{20}",
    "glsa_": "[A-Za-z0-9]{32}",
    "glc_": "[A-Za-z0-9+/]{32}",
    "hvs.": "[A-Za-z0-9_-]{24}",
    "hvb.": "[A-Za-z0-9_-]{24}",
    "ATATT3": "[A-Za-z0-9_=-]{60}",
    "lin_api_": "[A-Za-z0-9]{32}",
    "ntn_": "[A-Za-z0-9]{40}",
    "figd_": "[A-Za-z0-9_-]{36}",
    "PMAK-": "[a-f0-9]{24}-",
    "NRAK-": "[A-Z0-9]{27}",
    "sntrys_": "eyJ",
    "sbp_": "[a-f0-9]{40}",
    "rubygems_": "[a-f0-9]{48}",
    "HRKU-": "[A-Za-z0-9_-]{36}",
    "ops_eyJ": "[A-Za-z0-9_-]{40}",
}
"""What tokens of other services begin with, and what follows there."""

_KINDS = (
    _text("a private key", "PRIVATE", _PEM),
    _text("a private key", " ".join(_PEM_IN_BASE64), "|".join(map(re.escape, _PEM_IN_BASE64))),
    _token(
        "a private key",
        "IBA AgEAM MHcCAQEEI AgEBB MC4CAQAw b3BlbnNzaC1rZXkt",
        f"(?x:{_KEY_BODY})[A-Za-z0-9+/]{{16}}",
    ),
    _text("a private key", "PuTTY-User-Key-File-", r"PuTTY-User-Key-File-[0-9]: "),
    _prefixed("a private key", {"AGE-SECRET-KEY-1": "[0-9A-Z]{50}"}),
    _text("a private key", '"kty" "kty\\', rf"{_QUOTE}d{_IS_QUOTED}[A-Za-z0-9_-]{{32}}"),
    _prefixed("an AWS key", dict.fromkeys(("AKIA", "ASIA"), "[0-9A-Z]{16}(?![0-9A-Za-z])")),
    _text(
        "an AWS key",
        "secret_access_key SECRET_ACCESS_KEY ecretAccessKey secret_key SECRET_KEY ecretKey",
        _AWS_NAME + r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])",
    ),
    _token("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36}"),
    _prefixed("a GitHub token", {"github_pat_": "[A-Za-z0-9_]{22}"}),
    _token(
        "a GitLab token",
        "glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glimt- glagent- gloas- glffct-",
        r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent|oas|ffct)-[A-Za-z0-9_-]{20}",
    ),
    _prefixed("a GitLab token", {"GR1348941": "[A-Za-z0-9_-]{20}"}),
    _token("a Slack token", "xox", r"xox[abcdeoprs](?:\.xox[bp])?-[A-Za-z0-9%-]{10}"),
    _prefixed("a Slack token", {"xapp-": "[0-9]-[A-Z0-9]{8}"}),
    _prefixed("a Slack address", {"hooks.slack.com": "/(?:services|workflows|triggers)/[A-Z0-9]{8}"}),
    _prefixed("a Google key", {"AIza": "[0-9A-Za-z_-]{35}", "GOOG1": "[0-9A-Z]{50}"}),
    _prefixed("a Google token", {"ya29.": "[0-9A-Za-z_-]{20}", "1//0": "[0-9A-Za-z_-]{40}"}),
    _prefixed("a Google secret", {"GOCSPX-": "[0-9A-Za-z_-]{28}"}),
    _token("a Stripe key", "_live_ _test_", r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16}"),
    _prefixed("a Stripe secret", {"whsec_": "[0-9A-Za-z+/]{32}"}),
    _token(
        "a model provider's key",
        "sk-",
        r"sk-(?:proj|svcacct|admin|ant|or|lf|None)-[A-Za-z0-9_-]{20}|sk-[A-Za-z0-9]{32}",
    ),
    _prefixed("a Hugging Face token", {"hf_": "[A-Za-z0-9]{30}"}),
    _prefixed("an npm token", {"npm_": "[A-Za-z0-9]{36}"}),
    _token(
        "an npm token",
        "_authToken npmAuthToken",
        r"(?:_a|npmA)uthToken['\"]?\s{0,4}[=:]\s{0,4}['\"]?[A-Za-z0-9_-]{20}",
    ),
    _prefixed("a PyPI token", {"pypi-AgE": "[A-Za-z0-9_-]{30}"}),
    _prefixed("a SendGrid key", {"SG.": r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"}),
    _prefixed(
        "an Azure key", {"AccountKey=": "[A-Za-z0-9+/]{86}==", "SharedAccessKey=": "[A-Za-z0-9+/]{43}="}
    ),
    _token("an Azure key", "Q~", r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31}"),
    _token("an Azure key", "AZDO", r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"),
    _token(
        "an Azure key",
        "+ASt ACDb +AMC +ABa",
        r"[A-Za-z0-9+/]{76}(?:\+ASt|ACDb|\+AMC|\+ABa)[A-Za-z0-9+/]{6}==",
    ),
    _prefixed("an Azure token", {"sig=": "[A-Za-z0-9+/%]{43,60}(?:=|%3[Dd])"}),
    _prefixed("a service's token", _SERVICES),
    _token("a Telegram token", ":AA", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
    # The claims are JSON, so it has this form whoever signed it.
    _text("a signed token", ".eyJ", r"\.eyJ(?<=[A-Za-z0-9_-]{14}....)[A-Za-z0-9_-]{12}"),
    _text("a Terraform state", "terraform_version", rf"{_QUOTE}lineage{_IS_QUOTED}[0-9a-f-]{{36}}"),
    _token(
        "a cluster's credentials",
        "current-context",
        rf"(?:token|client-key-data)(?:{_QUOTE})?:\s{{0,8}}(?:{_QUOTE})?[A-Za-z0-9+/=._-]{{16}}",
    ),
    _text("a password in an address", ":// :\\", _ADDRESS, _has_password),
    _token(
        "a password in an address",
        "@tcp( @unix(",
        r"(?P<user>[A-Za-z0-9_.-]{1,64}):(?P<password>[^\s:/\"'`]{1,128})@(?:tcp|unix)\(",
        _has_password,
    ),
    _text(
        "a password in an address",
        "assword= ASSWORD= wd= WD=",
        r"[;?&](?:amp;)?\s?(?:[Pp]assword|PASSWORD|[Pp]wd|PWD)=(?P<password>[^\s;&\"'`<>\\]{1,128})",
        _has_password,
    ),
    _token(
        "a login",
        "machine",
        rf"machine{_GAP}[^\s\\]{{1,255}}{_GAP}login{_GAP}(?P<user>[^\s\\]{{1,255}}){_GAP}"
        rf"password{_GAP}(?P<password>[^\s\\]{{1,255}})",
        _has_password,
    ),
    _token(
        "a login",
        '"auth auth\\ _auth Basic basic',
        rf"(?:auth{_IS_QUOTED}|_auth\s{{0,8}}=\s{{0,8}}(?:{_QUOTE})?|[Bb]asic\s)"
        r"(?P<basic>[A-Za-z0-9+/]{8,512}={0,2})",
        _has_basic_password,
    ),
)


def secret_content(text: str) -> str | None:
    """What kind of secret stands in the text; None if none was found."""
    return next((kind.what for kind in _KINDS if kind.stands_in(text)), None)
