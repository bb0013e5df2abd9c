"""The file of a bundle: whole or not there, for its owner alone, and nobody's name in it."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sessiond.client.support.bundle import write_bundle
from sessiond.v1.errors import InvalidInput

FILES = {"a.txt": "one\n", "b.json": "{}\n", "empty": "", "wide": "é" * 1000}


def test_it_holds_the_files(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    assert write_bundle(path, FILES, 1000) == path.stat().st_size
    with tarfile.open(path) as tar:
        found = {}
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            found[entry.name] = file.read().decode()
            assert (entry.mode, entry.mtime, entry.uid, entry.uname, entry.gname) == (0o600, 1000, 0, "", "")
    assert found == {f"sessiond-support/{name}": text for name, text in FILES.items()}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_its_owner_reads_it(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_bundle(tmp_path / "b", FILES, 0)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600


def test_neither_its_own_name_nor_its_place_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "Quetzalcoatl.tar.gz"
    write_bundle(path, FILES, 0)
    assert b"Quetzalcoatl" not in path.read_bytes()


@pytest.mark.parametrize("there", ["file", "link", "dangling", "folder"])
def test_what_stands_there_stays(tmp_path: Path, there: str) -> None:
    path, other = tmp_path / "b", tmp_path / "other"
    if there == "folder":
        path.mkdir()
    elif there == "file":
        path.write_text("mine")
    else:
        path.symlink_to(other)
        if there == "link":
            other.write_text("mine")
    with pytest.raises(InvalidInput, match="exists already"):
        write_bundle(path, FILES, 0)
    if there in {"file", "link"}:
        assert path.read_text() == "mine"
    if there == "dangling":
        assert not other.exists()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        write_bundle(tmp_path / "none" / "b", FILES, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = tmp_path / "b", os.open

    def full(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        made = opened(name, flags, *rest, **more)
        if name != path:
            return made
        os.close(made)
        return opened("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_bundle(path, FILES, 0)
    assert not path.exists()
