"""Pins and unsaved buffers: what is refused, what counts as saved, and that all of it is bounded."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.workspace import overlay as overlay_module
from sessiond.daemon.workspace.classify import MAX_BYTES
from sessiond.daemon.workspace.order import Order
from sessiond.daemon.workspace.overlay import MAX_PATHS, Overlay
from sessiond.daemon.workspace.paths import path_fault
from sessiond.daemon.workspace.select import select
from sessiond.daemon.workspace.wishes import Wishes
from sessiond.v1.errors import InvalidInput

_BAD_PATHS = [
    "", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "a\0b", "a\nb", "a\x1b[31m", "a\u2028b", "./a", "a/./b", "a//b",
    "a/", ".", "x" * 4097, "é" * 2049, "a\ud800",
]  # fmt: skip


def _fields(act: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        act()
    return [violation.field for violation in caught.value.violations]


def _buffers(overlay: Overlay) -> dict[str, str]:
    return dict(overlay.wishes().buffers)


def test_a_new_one_asks_nothing() -> None:
    overlay = Overlay()
    assert overlay.is_empty
    order = Order({"a": 2.0})
    assert overlay.wishes(order) == Wishes(order=order)


def test_pins_keep_the_order_in_which_they_were_made() -> None:
    overlay = Overlay()
    overlay.pin(["b", "a/c.py"])
    overlay.pin(["a", "b"])
    assert overlay.wishes().pinned == ("b", "a/c.py", "a")
    overlay.unpin(["a/c.py", "never pinned"])
    assert overlay.wishes().pinned == ("b", "a")
    overlay.unpin(["a", "b"])
    assert overlay.is_empty


@pytest.mark.parametrize("path", _BAD_PATHS, ids=repr)
def test_what_is_no_plain_path_beneath_the_root_is_refused(tmp_path: Path, path: str) -> None:
    overlay = Overlay()
    assert _fields(lambda: overlay.pin(["fine", path])) == ["paths[1]"]
    assert _fields(lambda: overlay.set_buffer(tmp_path, path, "x")) == ["path"]
    assert overlay.is_empty, "all of a call, or none of it"


@pytest.mark.parametrize(
    "path", ["a", "a b/ç.py", "...", ".gitignore", "a..b", "-x", "[bold]", "\\x", "é" * 2048]
)
def test_any_other_name_is_a_path(path: str) -> None:
    assert path_fault(path) is None


@given(
    st.lists(
        st.text(
            st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"], blacklist_characters="/"),
            min_size=1,
            max_size=20,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_paths_of_plain_names_are_paths(names: list[str]) -> None:
    is_plain = not {".", ".."} & set(names)
    assert (path_fault("/".join(names)) is None) == is_plain


def test_a_file_that_the_walk_finds_can_be_pinned(tmp_path: Path) -> None:
    for name in ("a.py", "ä ö", "x'\"", "\u202e.py", "-n", "a/b/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root_fd = os.open(tmp_path, os.O_RDONLY)
    found = select(root_fd, tmp_path).files
    os.close(root_fd)
    assert len(found) == 6
    Overlay().pin(found)


def test_every_bad_path_is_named_but_not_without_end() -> None:
    overlay = Overlay()
    assert _fields(lambda: overlay.pin(["/a", "b", "../c"])) == ["paths[0]", "paths[2]"]
    assert len(_fields(lambda: overlay.pin(["/a"] * 10_000))) == 64


def test_pins_are_bounded() -> None:
    overlay = Overlay()
    overlay.pin([f"f{number}" for number in range(MAX_PATHS)])
    overlay.pin(["f0"])
    assert _fields(lambda: overlay.pin(["one more"])) == ["paths"]
    assert len(overlay.wishes().pinned) == MAX_PATHS


def test_buffers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_module, "MAX_PATHS", 3)
    monkeypatch.setattr(overlay_module, "MAX_BUFFERED_BYTES", 10)
    overlay = Overlay()
    assert _fields(lambda: overlay.set_buffer(tmp_path, "a", "x" * (MAX_BYTES + 1))) == ["text"]
    assert _fields(lambda: overlay.set_buffer(tmp_path, "a", "é" * (MAX_BYTES // 2) + "x")) == ["text"]
    assert _fields(lambda: overlay.set_buffer(tmp_path, "a", "x\0")) == ["text"]
    overlay.set_buffer(tmp_path, "a", "é" * 5)
    assert _fields(lambda: overlay.set_buffer(tmp_path, "b", "x")) == ["text"]
    overlay.set_buffer(tmp_path, "a", "x" * 10)  # what is replaced does not count
    overlay.set_buffer(tmp_path, "a", "")
    overlay.set_buffer(tmp_path, "b", "")
    overlay.set_buffer(tmp_path, "c", "")
    assert _fields(lambda: overlay.set_buffer(tmp_path, "d", "")) == ["path"]
    assert _buffers(overlay) == {"a": "", "b": "", "c": ""}


def test_a_buffer_stands_until_it_is_released(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("on disk")
    overlay = Overlay()
    overlay.set_buffer(tmp_path, "a.py", "unsaved")
    overlay.set_buffer(tmp_path, "new/b.py", "has no file")
    overlay.drop_saved(tmp_path)
    assert _buffers(overlay) == {"a.py": "unsaved", "new/b.py": "has no file"}
    overlay.release("a.py")
    overlay.release("a.py")
    overlay.release("new/b.py")
    assert overlay.is_empty


def _write_in_place(path: Path) -> None:
    path.write_text("saved, and longer")


def _replace(path: Path) -> None:
    """As editors do: the same size and the same time, but another file."""
    beside = path.with_name("beside")
    beside.write_text("before")
    os.utime(beside, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    beside.replace(path)


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def _remove_and_write(path: Path) -> None:
    path.unlink()
    path.write_text("before, and after")


@pytest.mark.parametrize("save", [_write_in_place, _replace, _touch, _remove_and_write])
def test_a_file_that_was_written_is_saved(tmp_path: Path, save: Callable[[Path], None]) -> None:
    (tmp_path / "a.py").write_text("before")
    (tmp_path / "b.py").write_text("before")
    overlay = Overlay()
    overlay.set_buffer(tmp_path, "a.py", "unsaved")
    overlay.set_buffer(tmp_path, "b.py", "unsaved too")
    save(tmp_path / "a.py")
    overlay.drop_saved(tmp_path)
    assert _buffers(overlay) == {"b.py": "unsaved too"}


def test_a_file_that_appears_is_saved(tmp_path: Path) -> None:
    overlay = Overlay()
    overlay.set_buffer(tmp_path, "new/a.py", "unsaved")
    (tmp_path / "new").mkdir()
    overlay.drop_saved(tmp_path)
    assert _buffers(overlay) == {"new/a.py": "unsaved"}
    (tmp_path / "new/a.py").write_text("")
    overlay.drop_saved(tmp_path)
    assert overlay.is_empty


def test_a_file_that_is_gone_was_not_saved(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("before")
    overlay = Overlay()
    overlay.set_buffer(tmp_path, "a.py", "unsaved")
    (tmp_path / "a.py").unlink()
    overlay.drop_saved(tmp_path)
    assert _buffers(overlay) == {"a.py": "unsaved"}


def test_typing_on_after_a_save_is_unsaved_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("before")
    overlay = Overlay()
    overlay.set_buffer(tmp_path, "a.py", "one")
    _write_in_place(tmp_path / "a.py")
    overlay.set_buffer(tmp_path, "a.py", "two")
    overlay.drop_saved(tmp_path)
    assert _buffers(overlay) == {"a.py": "two"}


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "pipe", "folder"])
def test_nothing_is_asked_of_what_is_no_file(tmp_path: Path, kind: str) -> None:
    """A write beyond a link says nothing of the workspace, and a link that is put there is no save."""
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "a.py").write_text("before")
    overlay = Overlay()
    overlay.set_buffer(root, "x/a.py", "unsaved")
    if kind == "link to a folder":
        (root / "x").symlink_to(other)
    else:
        (root / "x").mkdir()
        if kind == "link to a file":
            (root / "x/a.py").symlink_to(other / "a.py")
        elif kind == "pipe":
            os.mkfifo(root / "x/a.py")
        else:
            (root / "x/a.py").mkdir()
    overlay.drop_saved(root)
    _write_in_place(other / "a.py")
    overlay.drop_saved(root)
    assert _buffers(overlay) == {"x/a.py": "unsaved"}


def test_a_root_that_is_gone_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    overlay = Overlay()
    overlay.drop_saved(tmp_path / "none")  # nothing to ask
    overlay.set_buffer(root, "a", "x")
    root.rmdir()
    assert _fields(lambda: overlay.drop_saved(root)) == ["workspace_root"]
    assert _fields(lambda: overlay.set_buffer(root, "b", "x")) == ["workspace_root"]
    assert _buffers(overlay) == {"a": "x"}


def test_what_was_asked_is_one_moment(tmp_path: Path) -> None:
    overlay = Overlay()
    overlay.pin(["a"])
    overlay.set_buffer(tmp_path, "b", "x")
    wishes = overlay.wishes()
    overlay.unpin(["a"])
    overlay.release("b")
    assert (wishes.pinned, dict(wishes.buffers)) == (("a",), {"b": "x"})


def test_threads_lose_nothing_of_each_other(tmp_path: Path) -> None:
    overlay = Overlay()

    def work(number: int) -> None:
        for index in range(50):
            overlay.pin([f"{number}/{index}"])
            overlay.set_buffer(tmp_path, f"{number}", str(index))
            overlay.drop_saved(tmp_path)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(overlay.wishes().pinned) == 400
    assert _buffers(overlay) == {str(number): "49" for number in range(8)}
