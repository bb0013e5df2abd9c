"""Whoever reads anew what the watcher tells, and nothing else, knows the tree: whatever was done to it, and how fast."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.daemon.workspace.watch.watched import listening

from sessiond.daemon.workspace.watch.watcher import Burst, Watcher

_NAMES = ["a", "b", "c"]
_STEPS = 400
_MARKER = "marker"


class Mirror:
    """The content of all files, as far as the bursts said to read it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, str] = {}

    def hear(self, burst: Burst) -> None:
        """Reads what it names."""
        for path in burst.paths:
            self._read(path)
        if burst.rescan:
            self.files = snapshot(self.root)

    def _read(self, path: str) -> None:
        for known in [file for file in self.files if file == path or file.startswith(path + "/")]:
            del self.files[known]
        whole = self.root / path
        if any(folder.is_symlink() for folder in [whole, *whole.parents]):
            return
        if whole.is_dir():
            self.files |= {f"{path}/{file}": text for file, text in snapshot(whole).items()}
        else:
            self.files |= _content(whole, path)


def snapshot(root: Path) -> dict[str, str]:
    """The content of all files beneath a folder; those that vanish meanwhile are left out."""
    files: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                files |= _content(path, str(path.relative_to(root)))
    return files


def _content(path: Path, name: str) -> dict[str, str]:
    try:
        return {name: path.read_text()}
    except OSError:
        return {}


class Somebody:
    """Does things to a tree, at random and without rest."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.rounds = 0
        self.acts: list[Callable[[], object]] = [
            self._save,
            self._save,
            self._save_by_rename,
            self._move,
            self._move,
            self._delete,
            self._link,
            self._fill,
        ]

    def run(self) -> None:
        """One round; an act that the tree does not admit is left out. At its end a file says which round it was."""
        for _ in range(_STEPS):
            try:
                self.random.choice(self.acts)()
            except OSError:
                continue
            if self.random.random() < 0.05:
                time.sleep(self.random.random() * 0.1)
        self.rounds += 1
        (self.root / _MARKER).write_text(str(self.rounds))

    def _path(self) -> Path:
        return self.root.joinpath(*self.random.choices(_NAMES, k=self.random.randint(1, 4)))

    def _save(self) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(self.random.random()))

    def _save_by_rename(self) -> None:
        path = self._path()
        beside = path.with_name("tmp")
        beside.write_text(str(self.random.random()))
        beside.replace(path)

    def _move(self) -> None:
        self._path().rename(self._path())

    def _delete(self) -> None:
        path = self._path()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _link(self) -> None:
        self._path().symlink_to(self.root)

    def _fill(self) -> None:
        path = self._path()
        for name in _NAMES:
            (path / name / "deep").mkdir(parents=True)
            (path / name / "deep" / name).write_text(str(self.random.random()))


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify promises it")
@pytest.mark.parametrize("seed", range(10))
async def test_reading_what_is_told_is_knowing_the_tree(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    mirror = Mirror(root)
    somebody = Somebody(root, seed)
    async with listening(Watcher(root)) as ear:
        for number in ("1", "2", "3"):
            working = asyncio.create_task(asyncio.to_thread(somebody.run))
            while mirror.files.get(_MARKER) != number:
                mirror.hear(await ear.next())
            await working
            assert mirror.files == snapshot(root)
