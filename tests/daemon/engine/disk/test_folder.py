"""The folder is ours alone, and what stands in it is not trusted."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import Place, tokens

from sessiond.daemon.engine.disk.folder import Folder, Unusable

_RUN = tokens(600)


def test_files_and_folders_are_for_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        place = Place(tmp_path / "new" / "tier")
        place.keep(_RUN)
        place.store.begin_use("0" * 40 + "-0")
        place.store.tidy()
    finally:
        os.umask(before)
    for path in [place.path.parent, place.path, *place.path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert {path.name for path in place.path.iterdir()} >= {
        "lock",
        "entries",
        "new",
        "aside",
        "marks",
        "index.db",
    }


def test_a_folder_that_others_can_read_is_tightened(tmp_path: Path) -> None:
    Place(tmp_path / "tier").store.close()
    for path in (tmp_path / "tier", tmp_path / "tier" / "entries"):
        path.chmod(0o755)
    Place(tmp_path / "tier")
    for path in (tmp_path / "tier", tmp_path / "tier" / "entries"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("inside", ["", "entries", "new", "aside"])
@pytest.mark.parametrize("how", ["link", "file", "fifo", "writable", "foreign"])
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, inside: str, how: str) -> None:
    Place(tmp_path / "tier").store.close()
    path = tmp_path / "tier" / inside
    match how:
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "file":
            shutil.rmtree(path)
            path.write_bytes(b"")
        case "fifo":
            shutil.rmtree(path)
            os.mkfifo(path)
        case "writable":
            path.chmod(0o777)
        case _:
            if os.geteuid():
                pytest.skip("only root can give a folder away")
            os.chown(path, 12345, -1)
    with pytest.raises(Unusable):
        Folder(tmp_path / "tier", 0.0)


@pytest.mark.parametrize("name", ["lock", "marks"])
@pytest.mark.parametrize("how", ["link", "fifo", "folder", "foreign"])
def test_a_file_of_the_tier_that_is_none_is_refused(tmp_path: Path, name: str, how: str) -> None:
    Place(tmp_path / "tier").store.close()
    path = tmp_path / "tier" / name
    path.unlink()
    match how:
        case "link":
            (tmp_path / "precious").write_bytes(b"do not touch")
            path.symlink_to(tmp_path / "precious")
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            if os.geteuid():
                pytest.skip("only root can give a file away")
            path.write_bytes(b"")
            os.chown(path, 12345, -1)
    with pytest.raises(Unusable):
        Place(tmp_path / "tier")
    if how == "link":
        assert (tmp_path / "precious").read_bytes() == b"do not touch"


def test_marks_are_not_written_into_a_file_of_two_names(tmp_path: Path) -> None:
    """As an archive may bring it along: the other name may be that of anything."""
    Place(tmp_path / "tier").store.close()
    (tmp_path / "tier" / "marks").unlink()
    (tmp_path / "precious").write_bytes(b"do not touch")
    os.link(tmp_path / "precious", tmp_path / "tier" / "marks")
    with pytest.raises(Unusable):
        Place(tmp_path / "tier")
    assert (tmp_path / "precious").read_bytes() == b"do not touch"


@pytest.mark.parametrize("how", ["link", "link to itself", "fifo", "folder", "foreign"])
def test_what_stands_under_an_entrys_name_is_not_opened(tmp_path: Path, how: str) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    path = place.files()[0]
    path.rename(tmp_path / "moved")
    match how:
        case "link":
            path.symlink_to(tmp_path / "moved")
        case "link to itself":
            path.symlink_to(path)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            if os.geteuid():
                pytest.skip("only root can give a file away")
            shutil.copy(tmp_path / "moved", path)
            os.chown(path, 12345, -1)
    lost = int(path.name.rpartition("-")[2])
    rest = 600 - min(256, 600 - lost)
    assert place.back(_RUN) == rest and "could not be read" in place.said[-1]
    assert place.again().back(_RUN) == rest
    assert os.path.lexists(path), "it is not ours to remove"


def test_foreign_files_are_left_alone_and_told_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    entries = place.path / "entries"
    strange = ["README", "a" * 40, "A" * 40 + "-0", "a" * 40 + "-00", "a" * 40 + "-0.bak", ".hidden", "ü-1"]
    for name in strange:
        (entries / name).write_bytes(b"x")
    (entries / "folder").mkdir()
    (place.path / "new" / "notes.txt").write_bytes(b"x")
    place = place.again()
    assert place.back(_RUN) == 600
    assert place.said == ["disk tier: 8 files in the folder are not ours, and left alone"]
    assert all((entries / name).exists() for name in strange)
    assert (place.path / "new" / "notes.txt").exists()


def test_an_entrys_name_without_an_entry_is_removed(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    fake = place.path / "entries" / ("a" * 40 + "-0")
    shutil.copy(place.files()[0], fake)
    empty = place.path / "entries" / ("b" * 40 + "-0")
    empty.write_bytes(b"")
    place = place.again()
    assert not fake.exists() and not empty.exists() and place.back(_RUN) == 600


def test_what_a_dead_process_left_half_written_is_removed(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    left = place.path / "new" / "4711-0"
    left.write_bytes(b"half an entry")
    place.again()
    assert not left.exists()


class _Forced:
    """Which folders are forced to the disk; from the one whose name is `fails` on with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> None:
        self.paths: list[str] = []
        self._fails = fails
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, file: int) -> None:
        path = str(Path(f"/proc/self/fd/{file}").readlink())
        self.paths.append(path)
        if self._fails and path.endswith(self._fails):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(file)


def test_folders_are_on_the_disk_before_what_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = _Forced(monkeypatch)
    place = Place(tmp_path / "a" / "tier")
    assert forced.paths == [str(path) for path in (tmp_path, tmp_path / "a", place.path)]
    place.keep(tokens(100))
    assert len(forced.paths) == 5 and forced.paths[-1] == str(place.path / "entries")


def test_a_file_whose_name_was_not_forced_to_the_disk_is_not_left_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path / "tier")
    with monkeypatch.context() as patch:
        _Forced(patch, "/entries")
        assert place.keep(tokens(100)) == [False] and "Input/output error" in place.said[0]
    assert place.files() == [] == list((place.path / "new").iterdir())


def test_a_second_process_goes_without(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    assert "another process uses it" in _elsewhere(place.path)
    place.store.close()
    assert _elsewhere(place.path) == "open, 3 entries\n"


def _elsewhere(path: Path, user: int | None = None) -> str:
    code = """
import sys
from pathlib import Path
from sessiond.daemon.engine.disk.folder import Unusable
from tests.daemon.engine.disk.made import Place, tokens
try:
    place = Place(Path(sys.argv[1]))
    print(f"open, {len(place.store.catalogue)} entries")
except Unusable as unusable:
    print(unusable)
"""
    told = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, user=user
    )
    return told.stdout


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """In a file system that is mounted read-only for a child of its own, if that is allowed; a root may write anywhere
    else.
    """
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    if os.geteuid():
        place.path.chmod(0o500)
        (place.path / "lock").unlink()
        with pytest.raises(Unusable, match=os.strerror(errno.EACCES)):
            Place(place.path)
        place.path.chmod(0o700)
        return
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    code = "import sys; from pathlib import Path; from tests.daemon.engine.disk.made import Place; Place(Path(sys.argv[1]))"
    told = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-ec",
            script,
            "sh",
            str(place.path),
            sys.executable,
            "-c",
            code,
            str(place.path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unusable" not in told.stderr and "mount" in told.stderr:
        pytest.skip("mounting is not allowed here")
    assert "Unusable" in told.stderr and os.strerror(errno.EROFS) in told.stderr
    assert Place(place.path).back(_RUN) == 600
