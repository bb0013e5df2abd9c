"""A file on its way: whole under its name, or not there at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.daemon.sessions.snapshot.made import whole

from sessiond.daemon.private import NotPrivate
from sessiond.daemon.sessions.snapshot.draft import Draft


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "f"
    made.mkdir(mode=0o700)
    return made


def _put(path: Path, *pieces: bytes) -> None:
    draft = Draft(path)
    try:
        draft.open()
        draft.write(*pieces)
        draft.commit()
    finally:
        draft.close()


def test_a_file_is_there_once_it_is_whole(folder: Path) -> None:
    draft = Draft(folder / "s")
    draft.open()
    draft.write(b"ab", b"c")
    assert not (folder / "s").exists()
    draft.commit()
    draft.close()
    assert [each.name for each in folder.iterdir()] == ["s"]
    assert (folder / "s").read_bytes() == b"abc" and draft.size == 3
    assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o600


def test_what_is_not_committed_leaves_nothing(folder: Path) -> None:
    draft = Draft(folder / "s")
    draft.open()
    draft.write(b"ab")
    draft.close()
    assert list(folder.iterdir()) == []


def test_one_that_was_never_opened_can_be_closed(folder: Path) -> None:
    Draft(folder / "s").close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("before", [b"", whole()], ids=["empty", "snapshot"])
def test_a_snapshot_is_replaced(folder: Path, before: bytes) -> None:
    (folder / "s").write_bytes(before)
    _put(folder / "s", b"new")
    assert (folder / "s").read_bytes() == b"new"


def _link(path: Path) -> None:
    (path.parent / "other").write_bytes(whole())
    path.symlink_to("other")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("precious"),
        lambda path: path.mkdir(),
        os.mkfifo,
        _link,
    ],
    ids=["text", "folder", "pipe", "link"],
)
def test_what_is_no_snapshot_is_not_replaced(folder: Path, make: object) -> None:
    assert callable(make)
    make(folder / "s")
    before = {each.name: each.lstat().st_ino for each in folder.iterdir()}
    with pytest.raises(OSError, match="it is there"):
        _put(folder / "s", b"new")
    assert {each.name: each.lstat().st_ino for each in folder.iterdir()} == before


def test_what_came_there_meanwhile_is_not_replaced(folder: Path) -> None:
    draft = Draft(folder / "s")
    draft.open()
    (folder / "s").write_text("precious")
    with pytest.raises(OSError, match="it is there"):
        draft.commit()
    draft.close()
    assert (folder / "s").read_text() == "precious"
    assert [each.name for each in folder.iterdir()] == ["s"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_another_users_is_not_replaced(folder: Path) -> None:
    (folder / "s").write_bytes(whole())
    os.chown(folder / "s", 65534, 65534)
    with pytest.raises(OSError, match="another user"):
        _put(folder / "s", b"new")
    os.chown(folder, 65534, 65534)
    with pytest.raises(NotPrivate):
        _put(folder / "t", b"new")


def test_a_folder_to_which_others_can_write_is_refused(folder: Path) -> None:
    for mode in (0o720, 0o702, 0o1777):
        folder.chmod(mode)
        with pytest.raises(NotPrivate, match="others can write"):
            _put(folder / "s", b"new")
    folder.chmod(0o755)
    _put(folder / "s", b"new")


def test_a_folder_that_is_a_link_is_refused(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    with pytest.raises(NotPrivate):
        _put(folder.parent / "link" / "s", b"new")
    assert list(folder.iterdir()) == []


def test_one_that_is_closed_twice_closes_nobody_elses_file(folder: Path) -> None:
    draft = Draft(folder / "s")
    draft.open()
    draft.close()
    others = [os.open(folder, os.O_RDONLY) for _ in range(4)]  # they get the numbers that are free now
    draft.close()
    for other in others:
        os.close(other)
