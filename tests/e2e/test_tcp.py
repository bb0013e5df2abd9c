"""TCP: only on loopback, only behind a token, and a bad token learns nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.daemon import Daemon, run_daemon, sentence_of, short_folder
from tests.e2e.turns import answers

from sessiond.client import Client, PermissionDenied, Session

TOKEN = "right-token"
SCRIPTED = "scripted-kv:num_ctx=512"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Daemon]:
    """A daemon on TCP and on its socket."""
    with short_folder() as folder, Daemon(folder, SCRIPTED, "--tcp", "127.0.0.1:0", token=TOKEN) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def address(guarded: Daemon) -> str:
    """Where it listens."""
    return f"127.0.0.1:{guarded.records('daemon.tcp')[0]['port']}"


def test_the_right_token_comes_in(guarded: Daemon, address: str) -> None:
    with Client(address=address, token=TOKEN, timeout=30) as client:
        assert client.healthy()
        answers(client.open_session(key="tcp"))
        assert [each.key for each in guarded.client.sessions()] == ["tcp"]


@pytest.mark.parametrize("token", ["", "wrong", "right-toke", "right-token2", "Right-token"])
@pytest.mark.parametrize("way", ["tcp", "socket"])
def test_a_wrong_token_learns_nothing(guarded: Daemon, address: str, token: str, way: str) -> None:
    existing = guarded.client.open_session(key="hidden")
    to: dict[str, Any] = {"address": address} if way == "tcp" else {"socket": str(guarded.socket)}
    with Client(**to, token=token, timeout=30) as client:
        told: list[str] = []
        for name in (existing.name, "sessions/unknown", "malformed/name"):
            for ask in (Session.info, Session.explain, Session.close, Session.ensure_prefix):
                with pytest.raises(PermissionDenied) as caught:
                    ask(client.session(name))
                told.append(caught.value.message)
            with pytest.raises(PermissionDenied):
                list(client.session(name).decode())
        assert len(set(told)) == 1
        for look in (client.sessions, client.models, client.open_session, client.health):
            with pytest.raises(PermissionDenied):
                look()
    assert existing.info().state == 1


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.168.1.1:80", "[::]:0", "example.org:80", "nonsense", "127.0.0.1:99999"])  # fmt: skip
def test_an_address_that_is_not_loopback_is_refused(folder: Path, address: str) -> None:
    ended = run_daemon(
        folder, "--socket", str(folder / "s.sock"), "--model", SCRIPTED, "--tcp", address, "--token", TOKEN
    )
    assert ended.returncode == 2
    sentence_of(ended)


def test_tcp_without_a_token_is_refused(folder: Path) -> None:
    ended = run_daemon(
        folder, "--socket", str(folder / "s.sock"), "--model", SCRIPTED, "--tcp", "127.0.0.1:0"
    )
    assert ended.returncode == 2
    assert "token" in sentence_of(ended)


def test_a_port_that_is_taken(guarded: Daemon, address: str, folder: Path) -> None:
    flags = ("--socket", str(folder / "s.sock"), "--model", SCRIPTED, "--tcp", address, "--token", TOKEN)
    ended = run_daemon(folder, *flags)
    assert ended.returncode == 1
    sentence_of(ended)
    assert guarded.client.healthy()


def test_the_token_is_not_in_the_log(guarded: Daemon) -> None:
    assert TOKEN not in guarded.log_text()
