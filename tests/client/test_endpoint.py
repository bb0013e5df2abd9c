"""Where the client looks for the daemon."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import platformdirs
import pytest
from tests.client.fake_daemon import FakeDaemon

from sessiond.client import Client
from sessiond.client.endpoint import MAX_SOCKET_BYTES, resolve_endpoint
from sessiond.client.settings import settings_path
from sessiond.v1.errors import InvalidInput, PermissionDenied


def write_settings(text: str) -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text(text, encoding="utf-8")


def test_what_is_given_wins_over_environment_file_and_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve_endpoint().socket == platformdirs.user_runtime_path("sessiond") / "sessiond.sock"
    write_settings('socket = "/s/file"\nmodel = "m"\nkey = "k"\n')
    assert resolve_endpoint().socket == Path("/s/file")
    monkeypatch.setenv("SESSIOND_SOCKET", "/s/environment")
    assert resolve_endpoint().socket == Path("/s/environment")
    assert resolve_endpoint("/s/given").socket == Path("/s/given")


def test_the_default_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_endpoint().socket is not None


def test_a_default_folder_of_another_user_is_refused(
    monkeypatch: pytest.MonkeyPatch, short_path: Path
) -> None:
    folder = platformdirs.user_runtime_path("sessiond")
    assert folder.is_relative_to(short_path)
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(PermissionDenied, match="another user"):
        resolve_endpoint()
    resolve_endpoint(folder / "x.sock")  # a socket that was named is the user's own choice


def test_a_socket_path_may_have_107_bytes(tmp_path: Path) -> None:
    longest = "/" + "x" * (MAX_SOCKET_BYTES - 1)
    assert str(resolve_endpoint(longest)) == longest
    with pytest.raises(InvalidInput, match="108 bytes"):
        resolve_endpoint(longest + "x")
    with pytest.raises(InvalidInput):
        resolve_endpoint("/" + "ü" * 60)


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "localhost:1", "[::1]:50051", "a_b-c.example:65535"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    endpoint = resolve_endpoint(address=address)
    assert endpoint.socket is None
    assert str(endpoint) == address


@pytest.mark.parametrize("address", ["localhost", "unix:/x", "http://a:1", "a:b", "a:1/x", ":1"])
def test_another_address_is_invalid(address: str) -> None:
    with pytest.raises(InvalidInput, match="host:port"):
        resolve_endpoint(address=address)


def test_a_socket_and_an_address_contradict_each_other() -> None:
    with pytest.raises(InvalidInput):
        resolve_endpoint("/x", "localhost:1")


def test_the_token_comes_from_the_argument_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIOND_TOKEN", "from-environment")
    assert resolve_endpoint().token == "from-environment"
    assert resolve_endpoint(token="given").token == "given"
    assert resolve_endpoint(token="").token == ""
    assert "given" not in repr(resolve_endpoint(token="given"))
    for bad in ("a b", "a\n", "ü"):
        with pytest.raises(InvalidInput, match="token"):
            resolve_endpoint(token=bad)


@pytest.mark.parametrize("text", ["socket = 1", "sockets = 'x'", "socket =", "\udcff"])
def test_a_malformed_file_is_named(text: str) -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInput, match=r"client\.toml"):
        resolve_endpoint()


@pytest.mark.parametrize("name", ["a b#c?d%41.sock", "ünï.sock"])
def test_a_socket_may_have_any_name(short_path: Path, name: str) -> None:
    with FakeDaemon(short_path / name), Client(short_path / name) as client:
        assert client.healthy()
