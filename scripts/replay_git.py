"""A repository's history as contents of files: objects are read, and nothing is run or checked out.

What a person would not edit as text stays out: links, submodules, binary and huge files. A repository may come from
anybody, so paths that lead out of a folder stay out too, and there is a limit to how much of a tree is taken.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from dulwich.errors import FileFormatException, NotGitRepository
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.repo import Repo, UnsupportedExtension, UnsupportedVersion

from demo_copy import MOST_BYTES, MOST_FILE_BYTES, MOST_FILES, MOST_SEEN

Files: TypeAlias = dict[str, bytes]
"""Contents by path, in the order of the paths."""

CONFIG_FILE = ".sessiond.toml"
"""The daemon obeys it. The repository's own stays out, so that what is measured is what this script was told."""

_DAMAGED = (KeyError, AssertionError, FileFormatException, zlib.error, OSError)
"""What reading an object raises that is missing, broken, or of another kind than was said."""
_MOST_PATH, _MOST_NAME = 1_000, 200
"""Bytes."""


class NoHistory(Exception):
    """There is no repository, or nothing in it to replay. The message says which."""


class History:
    """The commits of one repository. Raises NoHistory if there is none at or above `folder`."""

    def __init__(self, folder: Path) -> None:
        try:
            self._repo = Repo.discover(folder)
        except NotGitRepository as error:
            raise NoHistory(f"no git repository holds {folder}") from error
        except (UnsupportedVersion, UnsupportedExtension, ValueError, OSError) as error:
            raise NoHistory(f"the repository cannot be read: {error}") from error
        self._known: dict[ObjectID, bytes | None] = {}
        """The contents of the tree that was read last, None for what stays out: most of the next one is the same."""

    def close(self) -> None:
        """Let go of its files."""
        self._repo.close()

    @property
    def objects(self) -> Path:
        """The folder of its objects."""
        return Path(os.path.abspath(self._repo.commondir()), "objects")  # noqa: PTH100 - links stay as they are

    def first_parents(self, most: int) -> list[ObjectID]:
        """The newest commit, its first parent and so on, as far as they are there. Raises NoHistory if there is none."""
        try:
            following: ObjectID | None = self._repo.head()
        except KeyError as error:
            raise NoHistory("the repository has no commit") from error
        found: list[ObjectID] = []
        while following is not None and len(found) < most and (commit := self._commit(following)):
            found.append(following)
            following = commit.parents[0] if commit.parents else None
        return found

    def _commit(self, name: ObjectID) -> Commit | None:
        """None where a shallow clone ends."""
        try:
            found = self._repo.object_store[name]
        except _DAMAGED:
            return None
        return found if isinstance(found, Commit) else None

    def files(self, commit: ObjectID) -> Files:
        """What a person would edit as text in that commit. What is missing or damaged stays out."""
        found = self._commit(commit)
        if found is None:
            return {}
        files: Files = {}
        folders: set[str] = set()
        """A broken tree may have a file and a folder of one name."""
        known: dict[ObjectID, bytes | None] = {}
        size = 0
        for path, name in self._entries(found.tree):
            content = known[name] = self._content(name)
            if content is None or not files.keys().isdisjoint(_folders(path)) or path in folders:
                continue
            if len(files) == MOST_FILES or size + len(content) > MOST_BYTES:
                break
            files[path] = content
            folders.update(_folders(path))
            size += len(content)
        self._known = known
        return files

    def _entries(self, tree: ObjectID) -> Iterator[tuple[str, ObjectID]]:
        """The regular files of a tree, by their paths, as far as it can be read."""
        # Folders are counted too: a tree of nothing but folders may have more of them than anybody can walk.
        every = iter_tree_contents(self._repo.object_store, tree, include_trees=True)
        with suppress(*_DAMAGED):
            for entry in islice(every, MOST_SEEN):
                path = text_path(entry.path or b"")
                if path is not None and entry.sha and entry.mode and stat.S_ISREG(entry.mode):
                    yield path, entry.sha

    def _content(self, name: ObjectID) -> bytes | None:
        if name in self._known:
            return self._known[name]
        try:
            blob = self._repo.object_store[name]
        except _DAMAGED:
            return None
        return blob.data if isinstance(blob, Blob) and is_text(blob.data) else None


def is_text(content: bytes) -> bool:
    """Whether somebody might edit it."""
    return len(content) <= MOST_FILE_BYTES and b"\0" not in content


def text_path(path: bytes) -> str | None:
    """A path of a tree, if a file may be written there beneath any folder; else None."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    names = text.split("/")
    if len(path) > _MOST_PATH or text == CONFIG_FILE or not all(map(_is_plain, names)):
        return None
    return text


def _folders(path: str) -> list[str]:
    """The folders that a file is in."""
    names = path.split("/")
    return ["/".join(names[:end]) for end in range(1, len(names))]


def _is_plain(name: str) -> bool:
    return (
        name not in {"", ".", ".."}
        and name.lower() != ".git"
        and "\\" not in name
        and "\0" not in name
        and len(name.encode()) <= _MOST_NAME
    )
