"""Where the daemon listens, and that it is alone there."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from sessiond.daemon.server.listen import (
    MAX_SOCKET_BYTES,
    ListenError,
    check_tcp,
    only_one,
    prepare_socket,
    unix_target,
)


def test_a_folder_is_made_for_us_alone(tmp_path: Path) -> None:
    path = prepare_socket(tmp_path / "a" / "b" / "s.sock")
    assert path.parent.is_dir()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_length_of_a_path(tmp_path: Path) -> None:
    room = MAX_SOCKET_BYTES - len(os.fsencode(tmp_path)) - 1
    assert prepare_socket(tmp_path / ("a" * room)) == tmp_path / ("a" * room)
    for name in ("a" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(ListenError, match="bytes"):
            prepare_socket(tmp_path / name)


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for folder in ("file", "link"):
        with pytest.raises(ListenError):
            prepare_socket(tmp_path / folder / "s.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_another_user_s_folder(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with pytest.raises(ListenError, match="another user"):
        prepare_socket(theirs / "s.sock")


def test_a_folder_that_all_may_write_to(tmp_path: Path) -> None:
    """Without a token the folder is the guard: whoever may write there can put a socket of their own in its place."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ListenError):
        prepare_socket(shared / "s.sock")


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    with only_one(socket):
        assert Path(f"{socket}.lock").read_text(encoding="ascii") == f"{os.getpid()}\n"
        socket.touch()
        with pytest.raises(ListenError, match="already running"), only_one(socket):
            pass
        assert socket.exists(), "the second one took the first one's socket"
    assert not socket.exists()
    with only_one(socket):
        pass


def test_what_a_dead_daemon_left_is_removed(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    socket.touch()
    Path(f"{socket}.lock").write_text("123456 and more\n", encoding="ascii")
    with only_one(socket):
        assert not socket.exists()
        assert Path(f"{socket}.lock").read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_a_lock_that_is_held_for_an_instant_is_waited_for(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    looking = os.open(f"{socket}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_EX)

    def leave() -> None:
        time.sleep(0.1)
        os.close(looking)

    thread = threading.Thread(target=leave)
    thread.start()
    with only_one(socket):
        thread.join()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="ascii")
    (tmp_path / "s.sock.lock").symlink_to(victim)
    with pytest.raises((ListenError, OSError)), only_one(tmp_path / "s.sock"):
        pass
    assert victim.read_text(encoding="ascii") == "precious"


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    with pytest.raises(RuntimeError), only_one(socket):
        raise RuntimeError
    with only_one(socket):
        pass


def test_a_socket_as_a_uri() -> None:
    assert unix_target(Path("/a b/%?#é")) == "unix:/a%20b/%25%3F%23%C3%A9"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:65535", "[::1]:80", "localhost:8080"])
def test_loopback(address: str) -> None:
    assert check_tcp(address, "token") == address
    with pytest.raises(ListenError, match="token"):
        check_tcp(address, "")


@pytest.mark.parametrize(
    "address",
    ["", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "0.0.0.0:80", "[::]:80",
     "192.168.0.1:80", "example.org:80", "*:80", "127.0.0.1.evil.org:80"],
)  # fmt: skip
def test_what_is_not_loopback(address: str) -> None:
    with pytest.raises(ListenError):
        check_tcp(address, "token")


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.168.0.1:80", "example.org:80"])
def test_beyond_loopback_takes_a_flag_a_token_and_tls(address: str) -> None:
    assert check_tcp(address, "token", beyond_loopback=True, tls=True) == address
    with pytest.raises(ListenError, match="TLS is needed"):
        check_tcp(address, "token", beyond_loopback=True)
    with pytest.raises(ListenError, match="needs a token"):
        check_tcp(address, "", beyond_loopback=True, tls=True)
    with pytest.raises(ListenError, match="not a loopback address"):
        check_tcp(address, "token", tls=True)
