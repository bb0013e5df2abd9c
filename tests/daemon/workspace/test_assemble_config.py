"""What `.sessiond.toml` makes of an assembly, and what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.daemon.workspace.trees import PLENTY, count, paths, reasons, write

from sessiond.daemon.workspace import select as select_module
from sessiond.daemon.workspace.assemble import assemble
from sessiond.daemon.workspace.order import Order
from sessiond.daemon.workspace.wishes import Wishes


def test_the_configuration_narrows_what_goes_in(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("AGENTS.md", "README.md", "src/a.py", "src/b.log", "src/gen/c.py"), "x"))
    write(tmp_path, {"docs/x.md": "x", "docs/sub/y.md": "x", "pin": "x", "#x": "x"})
    write(
        tmp_path,
        {
            ".sessiond.toml": "include = ['src/', '/docs/*.md', '#*']\n"
            "exclude = ['*.log', 'gen', '!README.md']\npinned = ['pin']\n"
        },
    )
    assembly = assemble(tmp_path, count, PLENTY, Wishes(buffers={"src/new.py": "x", "new.py": "x"}))
    assert paths(assembly) == ["AGENTS.md", "pin", "#x", "docs/x.md", "src/a.py", "src/new.py"]
    assert reasons(assembly) == dict.fromkeys(
        (".sessiond.toml", "README.md", "docs/sub/y.md", "new.py", "src/b.log", "src/gen"), "ignored"
    )
    details = {entry.path: entry.detail for entry in assembly.left_out}
    assert details["src/b.log"] == ".sessiond.toml exclude:1: *.log"
    assert details["new.py"] == ".sessiond.toml include: no pattern matches"


def test_a_pattern_of_include_may_be_taken_back(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c": "x", "a/d": "x", "a/b/keep": "x"})
    write(tmp_path, {".sessiond.toml": "include = ['a/', '!b/', 'keep']"})
    assert paths(assemble(tmp_path, count, PLENTY)) == ["a/b/keep", "a/d"]


def test_the_configuration_brings_nothing_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {".gitignore": "out.txt\n", "out.txt": "x", ".env": "x", "node_modules/a.js": "x", "z": "x"})
    write(root, {".git/config": "x"})
    write(tmp_path, {"foreign": "hunter2"})
    (root / "link").symlink_to("../foreign")
    asked = "['out.txt', '.env', 'node_modules/a.js', '.git/config', 'link']"
    patterns = "['*', '!out.txt', '!.env', '!node_modules', '!.git', '!link']"
    write(root, {".sessiond.toml": f"include = {asked}\npinned = {asked}\ninstructions = 'link'"})
    assert paths(assemble(root, count, PLENTY)) == []
    write(root, {".sessiond.toml": f"exclude = {patterns}\n"})
    assembly = assemble(root, count, PLENTY)
    assert paths(assembly) == []
    assert reasons(assembly)["out.txt"] == "ignored"


def test_other_instructions(tmp_path: Path) -> None:
    write(tmp_path, {"AGENTS.md": "a", "docs/AI.md": "i", "A": "x"})
    write(tmp_path, {".sessiond.toml": "instructions = 'docs/AI.md'"})
    assembly = assemble(tmp_path, count, PLENTY)
    assert [(segment.id, segment.kind) for segment in assembly.segments] == [
        ("instructions:docs/AI.md", "instructions"),
        ("file:.sessiond.toml", "file"),
        ("file:A", "file"),
        ("file:AGENTS.md", "file"),
    ]
    (tmp_path / "docs" / "AI.md").unlink()
    assert reasons(assemble(tmp_path, count, PLENTY)) == {"docs/AI.md": "missing"}


def test_the_order_of_paths_forgets_the_weights(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x", "b": "x", ".sessiond.toml": "order = 'path'"})
    wishes = Wishes(order=Order({"a": 1.0, "b": 0.0}))
    assert paths(assemble(tmp_path, count, PLENTY, wishes)) == [".sessiond.toml", "a", "b"]


def test_the_budget_of_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x" * 30, "b": "x" * 30, ".sessiond.toml": "budget = 16"})
    assembly = assemble(tmp_path, count, PLENTY)
    assert sum(count([segment.text for segment in assembly.segments])) <= 16
    assert assemble(tmp_path, count, 3) == assemble(tmp_path, count, 3)
    assert paths(assemble(tmp_path, count, 3)) == []


@pytest.mark.parametrize("content", ["exclude = ['a']\nincude = []", "exclude = ['a']\nx"])
def test_with_a_faulty_configuration_the_assembly_goes_on_without(tmp_path: Path, content: str) -> None:
    write(tmp_path, {"a": "x", ".sessiond.toml": content})
    assembly = assemble(tmp_path, count, PLENTY, Wishes(pinned=(".sessiond.toml",)))
    assert paths(assembly) == ["a"]
    assert reasons(assembly) == {".sessiond.toml": "config"}
    (tmp_path / ".sessiond.toml").unlink()
    (tmp_path / ".sessiond.toml").symlink_to("a")
    assert reasons(assemble(tmp_path, count, PLENTY)) == {".sessiond.toml": "config"}


def test_an_unsaved_configuration_is_not_obeyed(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x"})
    wishes = Wishes(buffers={".sessiond.toml": "exclude = ['a']", ".gitignore": "a"})
    assert paths(assemble(tmp_path, count, PLENTY, wishes)) == [".gitignore", ".sessiond.toml", "a"]


def test_the_patterns_of_the_configuration_count_for_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, dict.fromkeys("abcdef", "x"))
    write(tmp_path, {".sessiond.toml": f"include = ['*']\nexclude = {['x*y*z'] * 99}"})
    monkeypatch.setattr(select_module, "MAX_COMPARISONS", 300)
    assembly = assemble(tmp_path, count, PLENTY)
    assert paths(assembly) == [".sessiond.toml", "a", "b"]
    assert reasons(assembly) == {"c": "budget"}


# The map.

_MODULE = "def first(x: int) -> int:\n    return x\n\n\nclass Second:\n    def third(self) -> None: ...\n"


def test_the_map_stands_behind_the_instructions_and_is_paid_from_the_budget(tmp_path: Path) -> None:
    write(tmp_path, {"AGENTS.md": "i", "b.py": _MODULE, "c.txt": "x", "pin.py": "x = 1\n"})
    write(tmp_path, {".sessiond.toml": "[map]\nenabled = true\n"})
    wishes = Wishes(pinned=("pin.py",))
    assembly = assemble(tmp_path, count, 2_000, wishes)
    assert [segment.kind for segment in assembly.segments] == ["instructions", "map", *["file"] * 4]
    outline = assembly.segments[1]
    assert (outline.id, outline.path) == ("map", "")
    assert outline.text.startswith("=== what the files define ===\nb.py:\n")
    assert "first" in outline.text and "return" not in outline.text
    for room in range(0, 400, 7):
        tokens = {s.id: count([s.text])[0] for s in assemble(tmp_path, count, room, wishes).segments}
        assert sum(tokens.values()) <= room
        assert tokens.get("map", 0) <= room // 8


def test_the_map_does_not_change_with_the_order(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": _MODULE, "b.py": _MODULE, ".sessiond.toml": "[map]\nenabled = true\n"})
    one, other = (
        assemble(tmp_path, count, PLENTY, Wishes(order=Order(rates)))
        for rates in ({}, {".sessiond.toml": 0.0, "a.py": 3.0, "b.py": 1.0})
    )
    assert one.segments[0] == other.segments[0]
    assert paths(one) != paths(other)


def test_no_map_where_nothing_can_be_mapped(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "x", ".sessiond.toml": "[map]\nenabled = true\n"})
    assert [segment.kind for segment in assemble(tmp_path, count, PLENTY).segments] == ["file", "file"]
