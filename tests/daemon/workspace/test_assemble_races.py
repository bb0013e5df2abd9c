"""Files that change while an assembly is made: it has what they said when they were read, and the next one the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.workspace.trees import PLENTY, count, paths, write

from sessiond.daemon.workspace import select as select_module
from sessiond.daemon.workspace.assemble import Assembly, assemble
from sessiond.daemon.workspace.filling import framed


def _while_it_lists(root: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Assembly:
    """An assembly in which this happens after the walk, and before a file is read."""
    real = select_module.select

    def racing(*args: Any, **named: Any) -> select_module.Selection:
        selection = real(*args, **named)
        act()
        return selection

    with monkeypatch.context() as patch:
        patch.setattr("sessiond.daemon.workspace.assemble.select", racing)
        return assemble(root, count, PLENTY)


def _text(assembly: Assembly, path: str) -> str:
    return next(segment.text for segment in assembly.segments if segment.path == path)


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_save_between_the_listing_and_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_time: bool
) -> None:
    write(tmp_path, {"a": "old\n", "b": "old\n"})
    before = (tmp_path / "b").stat()

    def save() -> None:
        write(tmp_path, {"b": "new\n"})
        if keeps_time:
            os.utime(tmp_path / "b", ns=(before.st_atime_ns, before.st_mtime_ns))

    made = _while_it_lists(tmp_path, monkeypatch, save)
    assert _text(made, "b") == framed("b", "new\n")
    assert made == assemble(tmp_path, count, PLENTY)


def test_a_file_that_comes_after_the_listing_is_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a": "old\n"})
    made = _while_it_lists(tmp_path, monkeypatch, lambda: write(tmp_path, {"b": "new\n"}))
    assert paths(made) == ["a"]
    assert paths(assemble(tmp_path, count, PLENTY)) == ["a", "b"]


def test_a_secret_that_comes_after_the_listing_stays_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted_secrets: list[str]
) -> None:
    write(tmp_path, {"a": "old\n", "b": "old\n"})
    made = _while_it_lists(tmp_path, monkeypatch, lambda: write(tmp_path, {"b": planted_secrets[0]}))
    assert paths(made) == ["a"]
    assert [(entry.path, entry.reason) for entry in made.left_out] == [("b", "secret")]


def test_a_whole_tree_that_is_exchanged_after_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root that was opened is the one that is read: never half of each."""
    write(
        tmp_path,
        {f"root/{name}": "here\n" for name in "abc"} | {f"other/{name}": "there\n" for name in "abc"},
    )
    root = tmp_path / "root"

    def exchange() -> None:
        root.rename(tmp_path / "away")
        (tmp_path / "other").rename(root)

    made = _while_it_lists(root, monkeypatch, exchange)
    assert [segment.text for segment in made.segments] == [framed(name, "here\n") for name in "abc"]
    again = assemble(root, count, PLENTY)
    assert [segment.text for segment in again.segments] == [framed(name, "there\n") for name in "abc"]
