"""TLS on the TCP port, in the daemon, in both clients and in sessionctl."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.certificates import Pair, authority, needs_openssl, signed
from tests.e2e.daemon import PROGRAMS, Daemon, own_environment, run_daemon, sentence_of, short_folder
from tests.e2e.turns import answers

from sessiond.client import AsyncClient, Client, InvalidInput, SessionUnavailable, Tls

pytestmark = needs_openssl
TOKEN = "right-token"
SCRIPTED = "scripted-kv:num_ctx=512"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for certificates."""
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def ca(place: Path) -> Pair:
    """The authority that everybody trusts."""
    return authority(place, "ca")


@pytest.fixture(scope="module")
def server(place: Path, ca: Pair) -> Pair:
    """What the daemon shows."""
    return signed(place, "server", ca)


@pytest.fixture(scope="module")
def mine(place: Path, ca: Pair) -> Pair:
    """What a client shows."""
    return signed(place, "mine", ca)


@pytest.fixture(scope="module")
def stranger(place: Path) -> Pair:
    """An authority that nobody trusts."""
    return authority(place, "stranger")


def _flags(server: Pair, *more: str, tcp: str = "127.0.0.1:0") -> tuple[str, ...]:
    return ("--tcp", tcp, "--tls-cert", str(server.cert), "--tls-key", str(server.key), *more)


@pytest.fixture(scope="module")
def secure(server: Pair) -> Iterator[Daemon]:
    """A daemon with TLS that asks for no certificate."""
    with short_folder() as folder, Daemon(folder, SCRIPTED, *_flags(server), token=TOKEN) as daemon:
        yield daemon


def _address(daemon: Daemon) -> str:
    [told] = daemon.records("daemon.tcp")
    assert told["tls"] is True
    return f"127.0.0.1:{told['port']}"


def test_a_client_that_trusts_the_authority_comes_in(secure: Daemon, ca: Pair) -> None:
    with Client(address=_address(secure), token=TOKEN, tls=Tls(ca.cert), timeout=30) as client:
        answers(client.open_session(key="tls"))

    async def ask() -> bool:
        async with AsyncClient(address=_address(secure), token=TOKEN, tls=Tls(ca.cert)) as client:
            return await client.healthy(timeout=30)

    assert asyncio.run(ask())


def test_the_socket_is_as_it_was(secure: Daemon) -> None:
    assert secure.client.healthy()


@pytest.mark.parametrize("trusts", ["nobody we know", "a stranger", "no TLS at all"])
def test_who_does_not_trust_the_daemon_sends_it_nothing(secure: Daemon, stranger: Pair, trusts: str) -> None:
    tls = {"nobody we know": Tls(), "a stranger": Tls(stranger.cert), "no TLS at all": None}[trusts]
    before = len(secure.records("rpc"))
    with (
        Client(address=_address(secure), token=TOKEN, tls=tls, timeout=5) as client,
        pytest.raises((SessionUnavailable, TimeoutError)),
    ):
        client.sessions()
    assert len(secure.records("rpc")) == before


def test_sessionctl_speaks_tls(secure: Daemon, ca: Pair, folder: Path) -> None:
    for flags, env in (
        (["--tls-ca", str(ca.cert)], {}),
        (["--tls"], {"SESSIOND_TLS_CA": str(ca.cert)}),
        ([], {"SESSIOND_TLS_CA": str(ca.cert)}),
    ):
        done = subprocess.run(
            [PROGRAMS / "sessionctl", "--address", _address(secure), *flags, "ps"],
            env=own_environment(folder) | {"SESSIOND_TOKEN": TOKEN} | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


def test_a_client_certificate_can_be_asked_for(
    folder: Path, server: Pair, ca: Pair, mine: Pair, stranger: Pair
) -> None:
    flags = _flags(server, "--tls-client-ca", str(ca.cert))
    with Daemon(folder, SCRIPTED, *flags, token=TOKEN) as daemon:
        address = _address(daemon)
        with Client(address=address, token=TOKEN, tls=Tls(ca.cert, mine.cert, mine.key), timeout=30) as known:
            answers(known.open_session())
        for tls in (Tls(ca.cert), Tls(ca.cert, stranger.cert, stranger.key)):
            with (
                Client(address=address, token=TOKEN, tls=tls, timeout=5) as unknown,
                pytest.raises((SessionUnavailable, TimeoutError)),
            ):
                unknown.sessions()


def test_beyond_loopback_with_tls_and_its_flag(folder: Path, server: Pair, ca: Pair) -> None:
    flags = _flags(server, "--tcp-beyond-loopback", tcp="0.0.0.0:0")
    with (
        Daemon(folder, SCRIPTED, *flags, token=TOKEN) as daemon,
        Client(address=_address(daemon), token=TOKEN, tls=Tls(ca.cert), timeout=30) as client,
    ):
        assert client.healthy()


def _refused(folder: Path, *flags: str, token: str = TOKEN) -> str:
    given = ("--socket", str(folder / "s.sock"), "--model", SCRIPTED, *flags)
    ended = run_daemon(folder, *given, env={"SESSIOND_TOKEN": token})
    assert ended.returncode == 2, ended.stderr
    assert not (folder / "s.sock").exists()
    return sentence_of(ended)


def test_what_would_let_others_in_is_refused(folder: Path, server: Pair, mine: Pair) -> None:
    cert, key = ("--tls-cert", str(server.cert)), ("--tls-key", str(server.key))
    beyond = ("--tcp", "0.0.0.0:0", "--tcp-beyond-loopback")
    assert "TLS is needed" in _refused(folder, *beyond)
    assert "needs a token" in _refused(folder, *beyond, *cert, *key, token="")
    assert "not a loopback address" in _refused(folder, "--tcp", "0.0.0.0:0", *cert, *key)
    assert "tls_key" in _refused(folder, "--tcp", "127.0.0.1:0", *cert)
    assert "--tcp was not given" in _refused(folder, *cert, *key)
    assert "do not fit" in _refused(folder, *_flags(Pair(server.cert, mine.key)))
    assert "cannot be read" in _refused(folder, *_flags(Pair(folder / "none.pem", server.key)))


def test_a_key_that_others_can_read_is_refused(folder: Path, server: Pair) -> None:
    loose = folder / "loose.key"
    loose.write_bytes(server.key.read_bytes())
    loose.chmod(0o644)
    assert "others can read" in _refused(folder, *_flags(Pair(server.cert, loose)))


def test_files_of_a_client_that_will_not_do(folder: Path, ca: Pair, mine: Pair) -> None:
    junk = folder / "junk.pem"
    junk.write_bytes(b"\xff" * 100)
    for tls, field in (
        (Tls(folder / "none.pem"), "tls.ca"),
        (Tls(junk), "tls.ca"),
        (Tls(ca.cert, cert=mine.cert), "tls"),
    ):
        with pytest.raises(InvalidInput) as caught:
            Client(address="127.0.0.1:1", tls=tls)
        assert [violation.field for violation in caught.value.violations] == [field]
    with pytest.raises(InvalidInput):
        Client(socket="/x", tls=Tls(ca.cert))
    assert "PRIVATE" not in repr(
        Client(address="127.0.0.1:1", tls=Tls(ca.cert, mine.cert, mine.key)).endpoint
    )
