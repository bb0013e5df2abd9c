"""The process that reads a git repository's history: `python -m sessiond.daemon.workspace.commits ROOT`.

It prints the `Edits` that `history.py` is asked for, as one JSON object, or nothing and ends with another status than 0.
It reads objects, refs and the index alone, with dulwich. It does not read a repository's settings, and so obeys none: no
include, no program, no other folder than where the commits stand. Formats that only settings announce (SHA-256,
reftable) are no history to it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from dulwich.diff_tree import tree_changes
from dulwich.object_store import DiskObjectStore
from dulwich.objects import Commit, ObjectID
from dulwich.refs import DiskRefsContainer, Ref
from dulwich.walk import Walker

from sessiond.daemon.workspace.committed import committed_sizes
from sessiond.daemon.workspace.edits import MAX_CHANGES, Edits
from sessiond.daemon.workspace.working_tree import GIT, working_tree

__all__ = ["HALF_LIFE", "MAX_CHANGES", "edits"]

MAX_COMMITS = 500
MAX_PATHS = 20_000
"""In the answer."""
MAX_PATH_BYTES = 4096
MAX_SECONDS = 2.0
"""What was counted until then is the answer."""
HALF_LIFE = 100
"""Commits after which an edit counts half. Commits, not days: a project that rests does not forget."""

_MAX_LIFE = 10
"""Seconds until the process is ended, should even its parent be gone."""
_MAX_PROCESSOR = 5
"""Seconds."""
_MAX_DATA = 512 << 20
"""Bytes."""


def edits(root: Path) -> Edits:
    """What the repository that holds `root` tells. Raises whatever dulwich does on a broken one."""
    tree = working_tree(root)
    git_folder = _repository(tree) if tree is not None else None
    if tree is None or git_folder is None:
        return Edits()
    common = _common(git_folder)
    store = DiskObjectStore(os.fspath(common / "objects"))
    head = DiskRefsContainer(os.fspath(common), os.fspath(git_folder))[Ref(b"HEAD")]
    below = os.path.relpath(os.path.realpath(root), tree)
    prefix = b"" if below == os.curdir else os.fsencode(f"{below}/")
    sizes: dict[bytes, int | None] = {}
    with contextlib.suppress(Exception):  # of a broken index: what commits tell is still good
        sizes = committed_sizes(store, head, git_folder / "index")
    named = ((_name_beneath(prefix, path), size) for path, size in sizes.items())
    return Edits(_weights(store, head, prefix), {name: size for name, size in named if name is not None})


def _weights(store: DiskObjectStore, head: ObjectID, prefix: bytes) -> dict[str, float]:
    """Sum of what each edit of a path beneath `prefix` counts, by the path from there."""
    counted: dict[str, float] = {}
    for age, edited in enumerate(_commits(store, head)):
        for path in edited:
            name = _name_beneath(prefix, path)
            if name is not None and (name in counted or len(counted) < MAX_PATHS):
                counted[name] = counted.get(name, 0.0) + math.exp2(-age / HALF_LIFE)
    return counted


def _repository(tree: Path) -> Path | None:
    """The folder that a working tree's `.git` is, or names."""
    git = tree / GIT
    if git.is_symlink():
        return None
    if git.is_dir():
        return git
    if git.is_file():
        # A worktree or a submodule: the file says where its folder is.
        with git.open("rb") as file:
            told = file.read(MAX_PATH_BYTES)
        return tree / os.fsdecode(told.removeprefix(b"gitdir: ").partition(b"\n")[0])
    return None


def _common(git_folder: Path) -> Path:
    """Where the objects and branches are: a worktree shares them with its repository."""
    with contextlib.suppress(FileNotFoundError), (git_folder / "commondir").open("rb") as file:
        return git_folder / os.fsdecode(file.read(MAX_PATH_BYTES).rstrip(b"\r\n"))
    return git_folder


def _commits(store: DiskObjectStore, head: ObjectID) -> Iterator[list[bytes]]:
    """The paths that each commit edited, newest commit first. Merges and first commits are passed over."""
    until = time.monotonic() + MAX_SECONDS

    def parents(commit: Commit) -> list[ObjectID]:
        # A shallow clone has not all of them.
        return [parent for parent in commit.parents if parent in store]

    # What was read of a history with a fault in it is still good.
    with contextlib.suppress(Exception):
        for entry in Walker(store, [head], max_entries=MAX_COMMITS, get_parents=parents):
            if time.monotonic() > until:
                return
            if len(entry.commit.parents) == 1 and parents(entry.commit):
                yield _edited(store, entry.commit)


def _edited(store: DiskObjectStore, commit: Commit) -> list[bytes]:
    """The paths that a commit with one parent changed or made; none if it is huge."""
    before = store[commit.parents[0]]
    if not isinstance(before, Commit):
        return []
    changes = list(islice(tree_changes(store, before.tree, commit.tree), MAX_CHANGES + 1))
    if len(changes) > MAX_CHANGES:
        return []
    return [change.new.path for change in changes if change.new is not None]


def _name_beneath(prefix: bytes, path: bytes) -> str | None:
    if not path.startswith(prefix) or len(path) > MAX_PATH_BYTES:
        return None
    try:
        return path[len(prefix) :].decode()
    except UnicodeDecodeError:
        return None


def _limit() -> None:
    """Whatever stands in the repository, this process stays small and ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_MAX_LIFE)
    for what, most in (
        (resource.RLIMIT_CPU, _MAX_PROCESSOR),
        (resource.RLIMIT_DATA, _MAX_DATA),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    _limit()
    json.dump(asdict(edits(Path(sys.argv[1]))), sys.stdout)
