"""Which files the newest commit of a git repository holds, and how large they were when git last looked at them.

The index remembers the size of each file that it was told of, so that no file of the working tree is opened.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from dulwich.index import SerializedIndexEntry, read_index
from dulwich.object_store import DiskObjectStore
from dulwich.objects import Blob, Commit, ObjectID

MAX_FILES = 20_000
"""Of the commit, and of the index. Of more nothing is told: it would take longer than an order is worth."""
_EMPTY = Blob.from_string(b"").id


def committed_sizes(store: DiskObjectStore, head: ObjectID, index: Path) -> dict[bytes, int | None]:
    """Bytes of each file that the commit `head` holds, by its path in the repository; None where the index does not say.

    A file that is staged with another content is absent. Empty if there is no index, or if there are too many files.
    Raises whatever dulwich does on a broken repository.
    """
    commit = store[head]
    if not isinstance(commit, Commit) or not index.is_file():
        return {}
    held = {entry.path: entry.sha for entry in islice(store.iter_tree_contents(commit.tree), MAX_FILES + 1)}
    with index.open("rb") as file:
        staged = {entry.name: entry for entry in islice(read_index(file), MAX_FILES + 1)}
    if max(len(held), len(staged)) > MAX_FILES:
        return {}
    sizes: dict[bytes, int | None] = {}
    for path, content in held.items():
        entry = staged.get(path)
        if entry is None or entry.sha == content:
            sizes[path] = _size(entry)
    return sizes


def _size(entry: SerializedIndexEntry | None) -> int | None:
    # Git writes 0 where a file may have changed while it looked at it.
    if entry is None or (entry.size == 0 and entry.sha != _EMPTY):
        return None
    return entry.size
