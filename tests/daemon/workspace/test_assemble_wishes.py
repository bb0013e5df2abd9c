"""What editors and history make of an assembly, and what they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.workspace.trees import PLENTY, count, paths, reasons, write

from sessiond.daemon.workspace import classify
from sessiond.daemon.workspace import select as select_module
from sessiond.daemon.workspace.assemble import assemble, file_sizes
from sessiond.daemon.workspace.filling import framed
from sessiond.daemon.workspace.order import Order
from sessiond.daemon.workspace.wishes import Wishes
from sessiond.v1.errors import InvalidInput

# The order.


def test_what_is_edited_often_stands_last(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("AGENTS.md", "README.md", "a", "b", "c", "d"), "x" * 400))
    wishes = Wishes(
        order=Order({"a": 9.0, "b": 0.0, "c": 0.5, "d": 0.0, "README.md": 0.1, "AGENTS.md": 50.0})
    )
    assembly = assemble(tmp_path, count, PLENTY, wishes)
    assert paths(assembly) == ["AGENTS.md", "b", "d", "README.md", "c", "a"]


def test_where_not_all_fit_what_is_edited_often_goes_in_first(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("AGENTS.md", "README.md", "a", "b", "c", "z"), "x" * 400))
    room = count([framed("AGENTS.md", "x" * 400), framed("README.md", "x" * 400)])
    wishes = Wishes(order=Order({"README.md": 0.0, "z": 2.0, "a": 0.0, "b": 0.0, "c": 1.0, "gone": 5.0}))
    room_for = [sum(room) + number * room[1] for number in range(4)]
    assert paths(assemble(tmp_path, count, room_for[0], wishes)) == ["AGENTS.md", "README.md"]
    assert paths(assemble(tmp_path, count, room_for[1], wishes)) == ["AGENTS.md", "README.md", "z"]
    assert paths(assemble(tmp_path, count, room_for[2], wishes)) == ["AGENTS.md", "README.md", "c", "z"]
    assembly = assemble(tmp_path, count, room_for[3], wishes)
    assert paths(assembly) == ["AGENTS.md", "README.md", "a", "c", "z"]
    assert reasons(assembly) == {"b": "budget"}


def test_pins_go_in_first_and_stand_behind_the_instructions(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("AGENTS.md", "README.md", "a", "b", "c"), "x" * 60))
    wishes = Wishes(
        pinned=("c", "b", "c"),
        order=Order({"AGENTS.md": 0.0, "README.md": 0.5, "b": 1.0, "c": 0.0, "a": 3.0}),
    )
    assembly = assemble(tmp_path, count, PLENTY, wishes)
    assert paths(assembly) == ["AGENTS.md", "c", "b", "README.md", "a"]
    assert assembly.pinned == {"b", "c"}
    only_one = assemble(tmp_path, count, count([framed("c", "x" * 60)])[0], wishes)
    assert paths(only_one) == ["c"]
    assert only_one.pinned == {"c"}
    assert reasons(only_one) == dict.fromkeys(("AGENTS.md", "README.md", "a", "b"), "budget")


def test_a_pin_brings_in_nothing_that_must_stay_out(tmp_path: Path, planted_secrets: list[str]) -> None:
    root = tmp_path / "root"
    write(root, {".gitignore": "out.txt\nbuild/\n", "out.txt": "x", "build/made.py": "x", ".env": "hunter2"})
    write(root, {".git/config": "x", "node_modules/m.js": "x", "notes.md": planted_secrets[0]})
    write(root, {"picture.png": "x", "zero": "a\0b", "folder/file": "x"})
    write(tmp_path, {"foreign": "hunter2"})
    (root / "link").symlink_to("../foreign")
    pins = {
        "out.txt": "ignored",
        "build/made.py": "ignored",
        "node_modules/m.js": "ignored",
        ".env": "secret",
        "notes.md": "secret",
        "picture.png": "media",
        "zero": "binary",
        "link": "outside",
        ".git/config": "missing",
        "folder": "missing",
        "nothing": "missing",
        "../foreign": "missing",
        "/etc/passwd": "missing",
        "": "missing",
        "a\udcffb": "missing",
    }
    assembly = assemble(root, count, PLENTY, Wishes(pinned=tuple(pins)))
    assert paths(assembly) == [".gitignore", "folder/file"]
    assert assembly.pinned == frozenset()
    told = reasons(assembly)
    assert {path: told[path] for path in pins if path.isprintable()} == {
        path: reason for path, reason in pins.items() if path.isprintable()
    }
    assert told["a\\udcffb"] == "missing"
    assert list(told) == sorted(told, key=str.encode)


def test_a_pin_behind_the_end_of_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, dict.fromkeys("abcdef", "x"))
    monkeypatch.setattr(select_module, "MAX_ENTRIES", 2)
    assembly = assemble(tmp_path, count, PLENTY, Wishes(pinned=("b", "f")))
    assert paths(assembly) == ["b", "a"]
    assert reasons(assembly) == {"c": "budget", "f": "budget"}


# Buffers.


def test_an_unsaved_buffer_wins_over_its_file(tmp_path: Path) -> None:
    write(tmp_path, {"a": "old", "b": "b", "picture": "\0"})
    wishes = Wishes(buffers={"a": "new", "x/y/z.py": "made", "picture": "text"})
    assembly = assemble(tmp_path, count, PLENTY, wishes)
    assert [segment.text for segment in assembly.segments] == [
        framed("a", "new"),
        framed("b", "b"),
        framed("picture", "text"),
        framed("x/y/z.py", "made"),
    ]
    assert assembly.buffered == {"a", "x/y/z.py", "picture"}
    assert assembly.left_out == ()


def test_a_buffer_stays_out_where_its_file_would(tmp_path: Path, planted_secrets: list[str]) -> None:
    root = tmp_path / "root"
    write(root, {".gitignore": "*.log\n", "file": "x", "sub/.gitignore": "local\n"})
    (root / "link").symlink_to("../foreign")
    (root / "away").symlink_to(tmp_path)
    buffers = {
        "new.log": "ignored",
        "sub/local": "ignored",
        "node_modules/deep/new.js": "ignored",
        ".env": "secret",
        ".ssh/new": "secret",
        "new.py": "secret",
        "large": "too_large",
        "zero": "binary",
        "surrogate": "binary",
        "link": "outside",
        "away/new": "outside",
        "file/below": "missing",
        "../up": "missing",
        ".git/new": "missing",
    }
    texts = {
        **dict.fromkeys(buffers, "text"),
        "new.py": f"k = '{planted_secrets[0]}'",
        "large": "x" * 300_000,
        "zero": "a\0",
        "surrogate": "\udcff",
    }
    assembly = assemble(root, count, PLENTY, Wishes(buffers=texts))
    assert paths(assembly) == [".gitignore", "file", "sub/.gitignore"]
    assert assembly.buffered == frozenset()
    told = reasons(assembly)
    folders = {"node_modules/deep/new.js": "node_modules", ".ssh/new": ".ssh"}
    assert {path: told[path] for path in buffers} == buffers
    assert set(told) == {*buffers, *folders.values(), "away"}


def test_what_came_since_the_order_was_taken_stands_last_and_is_offered_room_first(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("a", "b", "new"), "x" * 40))
    order = Order.of({"a": 40, "b": 40}, {"a": 9.0})
    assert paths(assemble(tmp_path, count, PLENTY, Wishes(order=order))) == ["b", "a", "new"]
    only_one = count([framed("new", "x" * 40)])[0]
    assert paths(assemble(tmp_path, count, only_one, Wishes(order=order))) == ["new"]


def test_a_file_that_grows_keeps_its_place(tmp_path: Path) -> None:
    order = Order.of({"a": 40, "b": 40}, {"a": 9.0})
    for size in (0, 40, 100_000):
        write(tmp_path, {"a": "x\n" * size, "b": "x" * 40})
        assert paths(assemble(tmp_path, count, PLENTY, Wishes(order=order))) == ["b", "a"]


def test_the_sizes_that_an_order_is_taken_with(tmp_path: Path) -> None:
    write(tmp_path, {"a": "four", "b": "x", ".gitignore": "out", "out": "x", "poetry.lock": "x" * 999})
    write(tmp_path, {"huge.txt": "x" * (classify.MAX_BYTES + 1)})
    wishes = Wishes(buffers={"b": "\u00e9", "new": "xyz"})
    assert file_sizes(tmp_path, wishes) == {".gitignore": 3, "a": 4, "b": 2, "new": 3}
    with pytest.raises(InvalidInput):
        file_sizes(tmp_path / "missing")


def test_a_buffer_counts_for_the_budget(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x" * 4_000, "b": "x" * 400})
    grown = Wishes(buffers={"b": "x\n" * 50_000})
    assert reasons(assemble(tmp_path, count, 5_000, grown)) == {"b": "budget"}


# All of it.

_names = st.sampled_from(["AGENTS.md", "README.md", "a.py", "b.py", "d/a.py", "d/e/f", "x.log", ".env"])
_texts = st.integers(0, 400).map(lambda size: "x" * size)


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(_names, _texts),
    pinned=st.lists(_names, max_size=4).map(tuple),
    buffers=st.dictionaries(_names, _texts, max_size=3),
    weights=st.dictionaries(_names, st.floats(), max_size=8),
    config=st.sampled_from(
        ["", "exclude = ['d']", "include = ['*.py']", "pinned = ['b.py']", "map.enabled = true", "?"]
    ),
    room=st.integers(0, 500),
)
def test_any_wishes_keep_the_budget_and_lose_no_file(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, str],
    pinned: tuple[str, ...],
    buffers: dict[str, str],
    weights: dict[str, float],
    config: str,
    room: int,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    write(root, {**files, ".gitignore": "*.log\n", ".sessiond.toml": config})
    order = Order.of(dict.fromkeys(weights, 100), weights)
    wishes = Wishes(pinned, buffers, order)
    assembly = assemble(root, count, room, wishes)
    assert sum(count([segment.text for segment in assembly.segments])) <= room
    in_files = [path for path in paths(assembly) if path]
    present = {*files, *buffers, *pinned, ".gitignore", ".sessiond.toml"}
    told = {*in_files, *reasons(assembly)}
    assert all(path in told or any(path.startswith(f"{folder}/") for folder in told) for path in present)
    assert not {*in_files} & {*reasons(assembly)}
    assert not {*in_files} & {".env", "x.log"}
    shuffled = Wishes(pinned, dict(reversed(buffers.items())), Order(dict(reversed([*order.rates.items()]))))
    assert assemble(root, count, room, shuffled) == assembly
