"""What is read and what goes in, as a budget is used up."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.workspace.trees import PLENTY, count, paths, reasons, write

from sessiond.daemon.workspace import classify
from sessiond.daemon.workspace.assemble import assemble
from sessiond.daemon.workspace.filling import framed
from sessiond.daemon.workspace.segment import LeftOut
from sessiond.daemon.workspace.wishes import Wishes

_BYTES_PER_TOKEN = 16


@contextmanager
def _reads(root: Path) -> Generator[list[str], None, None]:
    """The names of the files under `root` whose bytes are asked for."""
    names = {path.stat().st_ino: path.name for path in root.rglob("*") if path.is_file()}
    read: list[str] = []
    real = os.read

    def noted(file_fd: int, most: int) -> bytes:
        name = names.get(os.fstat(file_fd).st_ino)
        if name is not None and name not in read:
            read.append(name)
        return real(file_fd, most)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessiond.daemon.workspace.beneath.os.read", noted)
        yield read


def test_a_file_that_cannot_fit_is_not_read(tmp_path: Path) -> None:
    room = 20
    just = room * _BYTES_PER_TOKEN - len(framed("a", ""))
    write(tmp_path, {"a": "x" * just, "b": "x" * (just + 1), "c": "x" * 30, "d": "x" * 10_000})
    write(tmp_path, {"e": "x" * (classify.MAX_BYTES + 1)})
    with _reads(tmp_path) as read:
        assembly = assemble(tmp_path, count, room)
    assert read == ["a", "c"]
    assert paths(assembly) == ["c"]
    assert reasons(assembly) == {"a": "budget", "b": "budget", "d": "budget", "e": "too_large"}
    with _reads(tmp_path) as read:
        assemble(tmp_path, count, PLENTY)
    assert read == ["a", "b", "c", "d"]


def test_what_was_taken_leaves_less_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessiond.daemon.workspace.filling._BATCH_FILES", 1)
    write(tmp_path, dict.fromkeys("abcdef", "x" * 300))
    room = 2 * count([framed("a", "x" * 300)])[0] + 3
    with _reads(tmp_path) as read:
        assembly = assemble(tmp_path, count, room)
    assert paths(assembly) == read == ["a", "b"]
    assert set(reasons(assembly).values()) == {"budget"}


def test_the_size_of_a_buffer_counts_and_not_that_of_its_file(tmp_path: Path) -> None:
    write(tmp_path, {"large": "x" * 5_000, "small": "x"})
    buffers = {"large": "y", "small": "y" * 5_000}
    with _reads(tmp_path) as read:
        assembly = assemble(tmp_path, count, 50, Wishes(buffers=buffers))
    assert read == []
    assert [segment.text for segment in assembly.segments] == [framed("large", "y")]
    assert reasons(assembly) == {"small": "budget"}


def test_a_file_that_grows_after_its_size_was_asked_for_does_not_go_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a": "x"})
    real = os.fstat

    def growing(file_fd: int) -> os.stat_result:
        status = real(file_fd)
        write(tmp_path, {"a": "x" * 5_000})
        return status

    monkeypatch.setattr("sessiond.daemon.workspace.beneath.os.fstat", growing)
    assert reasons(assemble(tmp_path, count, 50)) == {"a": "budget"}


_TEXT = st.builds(
    str.__mul__, st.sampled_from(["x", "é", "🙂", "a\n"]), st.integers(0, 300) | st.integers(0, 6_000)
)
_OTHERS = st.sampled_from(
    ["", "\0", "# @generated\n", "AKIA" + "IOSFODNN7EXAMPLE", "x" * (classify.MAX_LINE + 1), "\0" * 9_000]
)
_FILES = st.dictionaries(
    st.text("abcé", min_size=1, max_size=4).map(lambda name: name + ".txt"), _TEXT | _OTHERS, max_size=10
)


def _taken_from(
    contents: Mapping[str, str], chars_per_token: int, room: int
) -> tuple[dict[str, str], dict[str, str], int]:
    """What goes in, why what may not go in stays out, and the tokens that are left, where every file is read."""
    taken: dict[str, str] = {}
    out: dict[str, str] = {}
    for path in sorted(contents, key=str.encode):
        text = classify.by_name(path) or classify.by_content(path, contents[path].encode())
        if isinstance(text, LeftOut):
            out[path] = text.reason
            continue
        whole = framed(path, text)
        tokens = -(-len(whole) // chars_per_token)
        if len(whole.encode()) <= room * _BYTES_PER_TOKEN and tokens <= room:
            taken[path] = whole
            room -= tokens
    return taken, out, room


@settings(max_examples=200, deadline=None)
@given(
    on_disk=_FILES,
    buffers=_FILES,
    chars_per_token=st.sampled_from([1, 3, 16, 40]),
    room=st.integers(0, 400) | st.integers(0, 6_000),
    batch=st.integers(1, 5),
)
def test_what_goes_in_is_the_same_as_where_all_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    on_disk: dict[str, str],
    buffers: dict[str, str],
    chars_per_token: int,
    room: int,
    batch: int,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    write(root, on_disk)

    def counted(texts: Sequence[str]) -> list[int]:
        return [-(-len(text) // chars_per_token) for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessiond.daemon.workspace.filling._BATCH_FILES", batch)
        assembly = assemble(root, counted, room, Wishes(buffers=buffers))
    contents = on_disk | buffers
    taken, out, left = _taken_from(contents, chars_per_token, room)
    assert {segment.path: segment.text for segment in assembly.segments} == taken
    told = reasons(assembly)
    assert told.keys() == contents.keys() - taken.keys()
    for path, reason in told.items():
        why = out.get(path, "budget")
        could_fit = len(framed(path, contents[path]).encode()) <= left * _BYTES_PER_TOKEN
        assert reason == why if could_fit else reason in {why, "budget"}
