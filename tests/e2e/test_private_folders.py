"""A daemon does not start where somebody else could read along or put something there, and says so."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, run_daemon, sentence_of
from tests.e2e.turns import answers

from sessiond.client.private import make_folder, open_log
from sessiond.v1.errors import PermissionDenied

SCRIPTED = "scripted-kv:num_ctx=512"
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")


def _spoil(folder: Path, how: str) -> None:
    folder.mkdir(mode=0o700)
    match how:
        case "writable":
            folder.chmod(0o777)
        case "group":
            folder.chmod(0o770)
        case "another user's":
            os.chown(folder, 12345, 12345)
        case _:
            folder.rename(folder.with_name("elsewhere"))
            folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("which", ["socket", "state"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("writable", "others can write"),
        ("group", "others can write"),
        pytest.param("another user's", "another user", marks=as_root),
        ("a link", "cannot be used"),
    ],
)
def test_a_folder_that_is_not_ours_alone(folder: Path, which: str, how: str, says: str) -> None:
    _spoil(folder / which, how)
    places = ("--socket", str(folder / "socket" / "s.sock"), "--state-dir", str(folder / "state"))
    ended = run_daemon(folder, *places, "--model", SCRIPTED)
    assert ended.returncode == 2
    told = sentence_of(ended)
    assert says in told
    assert f"the {'socket' if which == 'socket' else 'state'}" in told
    assert str(folder / which) in told
    assert not list((folder / which).iterdir()), "nothing was put there"


def test_a_state_folder_that_others_can_read_is_closed(folder: Path) -> None:
    (folder / "state").mkdir(mode=0o755)
    with Daemon(folder, SCRIPTED) as daemon:
        answers(daemon.client.open_session())
        assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700


def test_the_log_of_a_daemon_that_a_client_starts(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        make_folder(tmp_path / "a" / "b")
        os.close(open_log(tmp_path / "a" / "b" / "log"))
        loose = tmp_path / "loose"
        loose.write_text("before\n")
        loose.chmod(0o666)
        log = open_log(loose)
        os.write(log, b"after\n")
        os.close(log)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/log", "loose")]
    assert modes == [0o700, 0o700, 0o600, 0o600]
    assert loose.read_text() == "before\nafter\n"


def test_a_log_that_is_none_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link", "pipe"):
        with pytest.raises((OSError, PermissionDenied)):
            open_log(tmp_path / name)
    os.close(reader)
    assert (tmp_path / "precious").read_text() == "mine"


@as_root
def test_a_log_of_another_user_is_not_written_to(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.touch(mode=0o666)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(PermissionDenied, match="not a plain file of this user"):
        open_log(theirs)
