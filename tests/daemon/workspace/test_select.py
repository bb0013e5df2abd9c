"""The walk: what it passes over, what it never does, and that it ends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sessiond.daemon.workspace import select as select_module
from sessiond.daemon.workspace.beneath import open_folder, open_root, read_file
from sessiond.daemon.workspace.select import Selection, select

_AS_ROOT = os.geteuid() == 0


def _select(root: Path) -> Selection:
    with open_root(root) as root_fd:
        return select(root_fd, root)


def _reasons(selection: Selection) -> dict[str, str]:
    return {entry.path: entry.reason for entry in selection.left_out}


def _write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")


def test_the_order_is_that_of_the_paths_as_bytes(tmp_path: Path) -> None:
    _write(tmp_path, "b", "a/c", "a.txt", "a-b", "a/b/z", "a/b.x", "Z", "é", "a0")
    files = _select(tmp_path).files
    assert list(files) == sorted(files, key=str.encode)
    assert set(files) == {"b", "a/c", "a.txt", "a-b", "a/b/z", "a/b.x", "Z", "é", "a0"}


def test_links_are_told_and_never_followed(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "rootless"
    _write(root, "file", "folder/inner")
    _write(other, "foreign")
    links = {
        "to_file": "file",
        "to_folder": "folder",
        "folder/up": "..",
        "self": "self",
        "dangling": "nothing",
        "out": "../rootless",
        "out_file": str(other / "foreign"),
        "hop": "folder/../../rootless/foreign",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    selection = _select(root)
    assert selection.files == ("file", "folder/inner")
    expected = {name: "outside" if "rootless" in target else "link" for name, target in links.items()}
    assert _reasons(selection) == expected


def test_a_root_that_is_a_link_is_walked(tmp_path: Path) -> None:
    _write(tmp_path / "real", "file")
    (tmp_path / "real" / "inside").symlink_to(tmp_path / "real" / "file")
    (tmp_path / "link").symlink_to("real")
    selection = _select(tmp_path / "link")
    assert selection.files == ("file",)
    assert _reasons(selection) == {"inside": "link"}


def test_special_files_are_passed_over_at_once(tmp_path: Path) -> None:
    _write(tmp_path, "file")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / ".gitignore")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        started = time.monotonic()
        selection = _select(tmp_path)
    assert time.monotonic() - started < 5
    assert selection.files == ("file",)
    assert _reasons(selection) == {"pipe": "special", "socket": "special", ".gitignore": "special"}


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9", b"\xff", b"a\nb", b"=\r", b"\x1b[2J", b"\x7f", "line\u2028end".encode(), b"\xed\xa0\x80"],
)
def test_names_that_are_no_line_of_text(tmp_path: Path, name: bytes) -> None:
    try:
        (tmp_path / os.fsdecode(name)).mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    _write(tmp_path, "file")
    (tmp_path / os.fsdecode(name) / "inner").write_text("x")
    selection = _select(tmp_path)
    assert selection.files == ("file",)
    assert [entry.reason for entry in selection.left_out] == ["name"]
    selection.left_out[0].path.encode("utf-8")


def test_folders_that_are_never_entered(tmp_path: Path) -> None:
    _write(tmp_path, "src/a.py", ".git/config", "src/.git", "node_modules/m/i.js", "src/__pycache__/a.pyc")
    _write(tmp_path, "env311/pyvenv.cfg", "env311/lib/x.py", "venv/bin/activate", ".aws/config")
    _write(tmp_path, "lib/venv/__init__.py", ".venv/x.py", "venv.py")
    (tmp_path / ".sessiondignore").write_text("!node_modules/\n!.git\n!.venv/\n")
    selection = _select(tmp_path)
    assert selection.files == (".sessiondignore", "lib/venv/__init__.py", "src/a.py", "venv.py")
    assert _reasons(selection) == {
        ".aws": "secret",
        ".venv": "ignored",
        "env311": "ignored",
        "node_modules": "ignored",
        "src/__pycache__": "ignored",
        "venv": "ignored",
    }


def test_the_budget_ends_the_walk_at_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, *(f"{folder}/{name}" for folder in "cab" for name in "rqpst"))
    whole = _select(tmp_path).files
    for limit in range(20):
        monkeypatch.setattr(select_module, "MAX_ENTRIES", limit)
        selection = _select(tmp_path)
        assert selection.files == whole[: len(selection.files)]
        assert len(selection.files) <= limit
        assert [entry.reason for entry in selection.left_out] == (["budget"] if limit < 18 else [])
        if limit < 18:
            first_missing = whole[len(selection.files)]
            assert (first_missing + "/").startswith(selection.left_out[0].path + "/")


def test_too_many_rules_and_too_many_folders_end_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, *"abcdef")
    (tmp_path / ".gitignore").write_text("x*y*z\n" * 1000)
    monkeypatch.setattr(select_module, "MAX_COMPARISONS", 3_000)
    assert _select(tmp_path).files == (".gitignore", "a", "b")
    deep = tmp_path / "deep" / "/".join("d" * (select_module.MAX_DEPTH + 5))
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    selection = _select(tmp_path / "deep")
    assert selection.files == ()
    assert [entry.reason for entry in selection.left_out] == ["budget"]


@pytest.mark.skipif(_AS_ROOT, reason="root may read everything")
def test_an_unreadable_folder(tmp_path: Path) -> None:
    _write(tmp_path, "file", "shut/inner")
    (tmp_path / "shut").chmod(0)
    try:
        assert _reasons(_select(tmp_path)) == {"shut": "unreadable"}
    finally:
        (tmp_path / "shut").chmod(0o700)


def _swap_for_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(path.name + ".old"))
    path.symlink_to(target)


def test_nothing_exchanged_for_a_link_leads_out(tmp_path: Path) -> None:
    """A folder or file that becomes a link after it was seen is not followed."""
    root, other = tmp_path / "root", tmp_path / "other"
    _write(root, "folder/file", "file")
    _write(other, "file")
    (other / "file").write_text("foreign")
    with open_root(root) as root_fd:
        assert read_file(root_fd, b"folder/file", 10) == b"x"
        _swap_for_link(root / "folder", other)
        _swap_for_link(root / "file", other / "file")
        for path in (b"folder/file", b"file", b"../other/file/x"):
            with pytest.raises(OSError):  # noqa: PT011 - which one it is differs between systems
                read_file(root_fd, path, 10)


@pytest.mark.parametrize("replace", ["link", "nothing", "pipe"])
def test_a_folder_that_changes_between_listing_and_entering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: str
) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    _write(root, "a", "folder/file")
    _write(other, "foreign")
    exchange: dict[str, Callable[[Path], None]] = {
        "link": lambda path: path.symlink_to(other),
        "nothing": lambda path: None,
        "pipe": os.mkfifo,
    }

    def racing(root_fd: int, path: bytes) -> AbstractContextManager[int]:
        if path == b"folder":
            (root / "folder").rename(tmp_path / "away")
            exchange[replace](root / "folder")
        return open_folder(root_fd, path)

    monkeypatch.setattr(select_module, "open_folder", racing)
    selection = _select(root)
    assert selection.files == ("a",)
    assert _reasons(selection)["folder"] in ({"vanished"} if replace == "nothing" else {"unreadable", "link"})
