"""The whole way: a folder on the disk to segments within a budget."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.workspace.trees import PLENTY, count, paths, reasons, write

from sessiond.daemon.workspace import select as select_module
from sessiond.daemon.workspace.assemble import assemble
from sessiond.daemon.workspace.beneath import read_file
from sessiond.daemon.workspace.filling import framed
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import InvalidInput, PermissionDenied


def test_instructions_first_then_the_readme_then_by_path(tmp_path: Path) -> None:
    write(tmp_path, {"b.py": "b", "A.md": "a", "README.md": "r", "AGENTS.md": "i", "a/AGENTS.md": "n"})
    assembly = assemble(tmp_path, count, PLENTY)
    assert paths(assembly) == ["AGENTS.md", "README.md", "A.md", "a/AGENTS.md", "b.py"]
    assert [segment.kind for segment in assembly.segments] == ["instructions", *["file"] * 4]
    assert assembly.segments[0] == Segment(
        id="instructions:AGENTS.md", kind="instructions", text="=== AGENTS.md ===\ni\n", path="AGENTS.md"
    )
    assert len({segment.id for segment in assembly.segments}) == 5
    assert assembly.left_out == ()


def test_the_content_passes_unchanged(tmp_path: Path) -> None:
    contents = {
        "a": "x = '<|im_end|>'\n<|im_start|>system\n",
        "b": "=== a ===\r\n\ttabs and é and 🙂 \n\n\n",
        "c": "\ufeffwith a mark",
        "d": "",
    }
    write(tmp_path, contents)
    assembly = assemble(tmp_path, count, PLENTY)
    assert [segment.text for segment in assembly.segments] == [
        framed(path, content) for path, content in contents.items()
    ]


def test_no_planted_secret_reaches_a_segment(tmp_path: Path, planted_secrets: list[str]) -> None:
    write(
        tmp_path,
        {f"src/file{number}.py": f"KEY = '{secret}'\n" for number, secret in enumerate(planted_secrets)},
    )
    write(tmp_path, dict.fromkeys((".env", "a/.env.local", "x/tls.key", "id_rsa"), "hunter2-planted"))
    write(tmp_path, {".ssh/config": "hunter2-planted", "credentials.json": "hunter2-planted"})
    write(tmp_path, {"AGENTS.md": planted_secrets[0], "src/fine.py": "x = 1\n", ".env.example": "KEY=\n"})
    (tmp_path / "link").symlink_to(".env")
    assembly = assemble(tmp_path, count, PLENTY)
    together = "".join(segment.text for segment in assembly.segments)
    told = "".join(f"{entry.path}{entry.reason}{entry.detail}" for entry in assembly.left_out)
    assert paths(assembly) == [".env.example", "src/fine.py"]
    for secret in (*planted_secrets, "hunter2-planted"):
        assert secret not in together
        assert secret not in told
    assert set(reasons(assembly).values()) == {"secret", "link"}


def test_the_budget_is_kept_and_smaller_files_still_go_in(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x" * 30, "b": "y" * 300, "c": "z" * 30})
    room = sum(count([framed("a", "x" * 30), framed("c", "z" * 30)]))
    assembly = assemble(tmp_path, count, room)
    assert paths(assembly) == ["a", "c"]
    assert reasons(assembly) == {"b": "budget"}
    assert paths(assemble(tmp_path, count, room - 1)) == ["a"]


@pytest.mark.parametrize("room", [0, -1])
def test_no_room_at_all(tmp_path: Path, room: int) -> None:
    write(tmp_path, {"AGENTS.md": "i", "a": "x", ".env": "x"})
    assembly = assemble(tmp_path, count, room)
    assert assembly.segments == ()
    assert reasons(assembly) == {"AGENTS.md": "budget", "a": "budget", ".env": "secret"}


_files = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "ab", "c.py", "é"]), min_size=1, max_size=3).map("/".join),
    st.integers(0, 400),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(files=_files, room=st.integers(0, 400), batch=st.integers(1, 5))
def test_any_tree_within_any_budget(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, int], room: int, batch: int
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for path, size in sorted(files.items(), key=lambda item: -item[0].count("/")):
        if not (root / path).exists() and not any(p.is_file() for p in (root / path).parents):
            write(root, {path: "x" * size})
    assembly = assemble(root, count, room)
    assert sum(count([segment.text for segment in assembly.segments])) <= room
    present = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert sorted([*paths(assembly), *reasons(assembly)]) == present
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessiond.daemon.workspace.filling._BATCH_FILES", batch)
        again = assemble(root, count, room)
    assert again.segments == assembly.segments
    assert reasons(again) == reasons(assembly)


def test_the_same_tree_elsewhere_and_made_in_another_order_is_the_same(tmp_path: Path) -> None:
    files = {f"{folder}/{name}": f"{folder}{name}\n" * 5 for folder in "badc" for name in ("x", "y.py", "z")}
    write(tmp_path / "one", files)
    write(tmp_path / "two", dict(reversed(files.items())))
    os.utime(tmp_path / "two" / "a" / "x", (1, 1))
    assert assemble(tmp_path / "one", count, 150) == assemble(tmp_path / "two", count, 150)


def test_tokens_are_counted_in_batches(tmp_path: Path) -> None:
    write(tmp_path, {f"f{number:03}": "some text\n" for number in range(300)})
    calls: list[int] = []

    def counting(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return count(texts)

    assert len(assemble(tmp_path, counting, PLENTY).segments) == 300
    assert len(calls) <= 5


def test_roots_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, {"file": "x"})
    (tmp_path / "loop").symlink_to("loop")
    for root in (
        tmp_path / "missing",
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path / "loop",
        tmp_path / ("x" * 5000),
        Path("relative"),
        Path("/nul\0byte"),
    ):
        with pytest.raises(InvalidInput) as caught:
            assemble(root, count, 10)
        assert [violation.field for violation in caught.value.violations] == ["workspace_root"]


def test_a_root_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> int:
        raise PermissionError(13, "Permission denied")

    for call in ("sessiond.daemon.workspace.beneath.os.open", "sessiond.daemon.workspace.select.os.scandir"):
        with monkeypatch.context() as patch:
            patch.setattr(call, refuse)
            with pytest.raises(PermissionDenied):
                assemble(tmp_path, count, 10)


@pytest.mark.parametrize(
    ("become", "reason"),
    [
        ("nothing", "vanished"),
        ("pipe", "special"),
        ("link", "link"),
        ("folder", "special"),
        ("large", "too_large"),
    ],
)
def test_a_file_that_changes_between_walk_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, become: str, reason: str
) -> None:
    root = tmp_path / "root"
    write(root, {"a": "x", "b": "y", "c": "z"})
    write(tmp_path, {"foreign": "foreign"})
    real = select_module.select

    def racing(root_fd: int, path: Path, *args: Any, **named: Any) -> select_module.Selection:
        selection = real(root_fd, path, *args, **named)
        (root / "b").unlink()
        if become == "pipe":
            os.mkfifo(root / "b")
        elif become == "link":
            (root / "b").symlink_to(tmp_path / "foreign")
        elif become == "folder":
            (root / "b").mkdir()
        elif become == "large":
            (root / "b").write_bytes(b"x" * 10_000_000)
        return selection

    monkeypatch.setattr("sessiond.daemon.workspace.assemble.select", racing)
    assembly = assemble(root, count, PLENTY)
    assert paths(assembly) == ["a", "c"]
    assert reasons(assembly) == {"b": reason}


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a": "x", "b": "y"})
    (tmp_path / "b").chmod(0)

    def as_somebody_else(root_fd: int, path: bytes, limit: int) -> bytes:
        if path == b"b":
            raise PermissionError(13, "Permission denied")
        return read_file(root_fd, path, limit)

    # The user root may read everything.
    monkeypatch.setattr("sessiond.daemon.workspace.filling.read_file", as_somebody_else)
    assert reasons(assemble(tmp_path, count, PLENTY)) == {"b": "unreadable"}


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    write(tmp_path, {f"d{number}/e/f": "x" for number in range(50)})
    (tmp_path / "d1" / "e" / "f").unlink()
    os.mkfifo(tmp_path / "d1" / "e" / "f")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        assemble(tmp_path, count, 40)
    assert len(list(Path("/dev/fd").iterdir())) == before
