"""What stays out, and that ordinary code does not."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.workspace import secrets
from sessiond.daemon.workspace.classify import MAX_BYTES, MAX_LINE, by_content, by_name
from sessiond.daemon.workspace.secrets import secret_content
from sessiond.daemon.workspace.segment import LeftOut

_HARMLESS = [
    "AKIA is the prefix of an AWS key",
    "task-proj-management-board-with-a-long-name",
    '<div class="sk-fading-circle sk-spinner-grow-and-shrink-slowly">',
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here",
    "password = os.environ['PASSWORD']",
    "aws_secret_access_key = os.environ['X']",
    "disk-ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "sha256:0f3c9a" + "0" * 58,
    "hf_hub_download(repo_id, filename)",
    "<|im_end|>",
]


@pytest.mark.parametrize("frame", ["{}", "key = '{}'\n", "x" * 4_000 + '\n\t"{}",\n', "é={}\r\n", "({})"])
def test_planted_secrets_are_found_and_not_told(planted_secrets: list[str], frame: str) -> None:
    for secret in planted_secrets:
        found = by_content("notes.txt", frame.format(secret).encode())
        assert isinstance(found, LeftOut), secret
        assert found.reason == "secret"
        assert secret[12:] not in found.detail


@pytest.mark.parametrize("text", _HARMLESS)
def test_what_only_looks_like_a_secret(text: str) -> None:
    assert secret_content(text) is None
    assert by_content("notes.txt", text.encode()) == text


@given(before=st.text(max_size=200), after=st.text(max_size=200))
def test_a_secret_is_found_between_any_lines(planted_secrets: list[str], before: str, after: str) -> None:
    for secret in planted_secrets:
        assert secret_content(f"{before}\n{secret}\n{after}") is not None


def test_every_kind_is_planted_or_bounded() -> None:
    """No pattern may repeat without an upper bound: that is what keeps the search linear."""
    for kind in secrets._KINDS:
        outside_classes = re.sub(r"\[[^]]*\]", "c", kind.pattern.pattern)
        assert not re.search(r"(?<!\\)[*+]|,\}", outside_classes), kind.pattern.pattern


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN ",
        "-----BEGIN AAAAAA PRIVATE KEY",
        "sk-",
        "sk-proj-",
        "xoxb-",
        "AKIA",
        "AIza",
        "SG.aaaaaaaaaaa",
        "gh",
        "a",
        "aws_secret_access_key" + " " * 9,
        "AccountKey=aaaa",
        "github_pat_",
        "_authToken=!",
        "npm_",
        "ya29.",
        "\n",
        "@",
    ],
)
def test_the_search_is_linear(piece: str) -> None:
    text = (piece * (MAX_BYTES // len(piece) + 1))[:MAX_BYTES]
    # Every needle is in it, so that no pattern is skipped.
    text += "\n" + "!\n".join(needle for kind in secrets._KINDS for needle in kind.needles)
    started = time.monotonic()
    secret_content(text)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        ".envrc",
        ".ENV.production",
        "prod.env",
        "server.pem",
        "tls.key",
        "TLS.KEY",
        "id_rsa",
        "id_rsa.pub",
        "id_ed25519",
        ".netrc",
        "credentials",
        "credentials.json",
        "Credentials.yml",
        ".npmrc",
        "x.p12",
        ".git-credentials",
        "terraform.tfstate",
        "secrets.yaml",
        "client_secret_1.json",
        ".pypirc",
    ],
)
def test_secret_names(name: str) -> None:
    for path in (name, f"deep/folder/{name}"):
        found = by_name(path)
        assert found is not None
        assert (found.path, found.reason) == (path, "secret")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("package-lock.json", "lock_file"),
        ("Cargo.lock", "lock_file"),
        ("go.sum", "lock_file"),
        ("uv.lock", "lock_file"),
        ("app.min.js", "generated"),
        ("app.js.map", "generated"),
        ("a_pb2.py", "generated"),
        ("logo.PNG", "media"),
        ("logo.svg", "media"),
        ("dist.tar.gz", "media"),
        ("model.gguf", "media"),
    ],
)
def test_other_names(name: str, reason: str) -> None:
    found = by_name(f"x/{name}")
    assert found is not None
    assert found.reason == reason


@pytest.mark.parametrize(
    "name",
    [
        ".env.example",
        ".env.sample",
        "environment.py",
        "key.py",
        "keys.ts",
        "package.json",
        "go.mod",
        "Makefile",
        "map.py",
        "admin.js",
        "lock.rs",
        "png",
        "env",
        "pem.go",
        "README",
        "test_credentials.py",
        "a.b",
        "x.",
    ],
)
def test_ordinary_names_go_in(name: str) -> None:
    assert by_name(name) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\0b", "binary"),
        (b"caf\xe9", "binary"),
        ("text".encode("utf-16"), "binary"),
        (b"\xed\xa0\x80", "binary"),
        (b"x\n" * (MAX_BYTES // 2) + b"x", "too_large"),
        (b"# @generated by a tool\nx = 1\n", "generated"),
        (b"// Code generated by protoc-gen-go. DO NOT EDIT.\n", "generated"),
        (b"# Generated by the protocol buffer compiler.  DO NOT EDIT!\n", "generated"),
        (b"x" * (MAX_LINE + 1), "generated"),
        (b"ok\n" + b"x" * (MAX_LINE + 1) + b"\nok", "generated"),
    ],
)
def test_content_that_stays_out(content: bytes, reason: str) -> None:
    found = by_content("file", content)
    assert isinstance(found, LeftOut)
    assert found.reason == reason


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300))
def test_text_passes_unchanged(text: str) -> None:
    if secret_content(text) is None and "generated" not in text:
        assert by_content("file", text.encode()) == text


def test_a_mark_counts_only_at_the_start() -> None:
    text = "one\n" * 12 + "how @generated is used\n"
    assert by_content("doc.md", text.encode()) == text
    assert by_content("long", b"x" * MAX_LINE + b"\n") == "x" * MAX_LINE + "\n"
