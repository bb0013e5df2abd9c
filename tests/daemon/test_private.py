"""Folders of ours: made closed, and refused where somebody else could have been."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.daemon.private import NotPrivate, private_folder


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """A user whose files are everybody's."""
    old = os.umask(0)
    yield
    os.umask(old)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_that_is_missing_is_made_for_us_alone(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b" / "c", "it", close=False)
    for made in ("a", "a/b", "a/b/c"):
        assert _mode(tmp_path / made) == 0o700


def test_one_that_others_can_read_is_closed_if_it_is_the_daemon_s_own(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir(mode=0o755)
    private_folder(folder, "it", close=False)
    assert _mode(folder) == 0o755
    private_folder(folder, "it", close=True)
    assert _mode(folder) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702, 0o720])
def test_one_that_others_can_write_to_is_refused_and_left_alone(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(NotPrivate, match="others can write to it"):
        private_folder(folder, "it", close=True)
    assert _mode(folder) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_another_user_s_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(NotPrivate, match="belongs to another user"):
        private_folder(folder, "it", close=True)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "link", "pipe", "file/below"):
        with pytest.raises(NotPrivate, match="it cannot be used"):
            private_folder(tmp_path / name, "it", close=True)
