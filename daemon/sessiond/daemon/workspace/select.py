"""Which files a workspace has: a walk that follows nothing, opens only folders and ignore files, and has an end.

The order is that of the paths as bytes, so the same tree always gives the same answer, also where the walk had
to stop early.
"""

from __future__ import annotations

import heapq
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.workspace.beneath import open_folder, read_file, why_unread
from sessiond.daemon.workspace.ignore import IgnoreFile
from sessiond.daemon.workspace.paths import path_fault
from sessiond.daemon.workspace.rules import Narrowing, Rules
from sessiond.daemon.workspace.segment import LeftOut, shown
from sessiond.daemon.workspace.skip import VCS_FOLDER, is_virtual_environment, skipped_folder

MAX_ENTRIES = 50_000
"""Names looked at in one walk."""
MAX_COMPARISONS = 50_000_000
"""Names times the rules that hold for them: a hostile ignore file costs time, but not forever."""
MAX_DEPTH = 64
"""Folders within folders."""
MAX_IGNORE_BYTES = 256 * 1024
"""A larger ignore file is not read."""

_GIT_IGNORE = b".gitignore"
_OWN_IGNORE = b".sessiondignore"
_GIT_EXCLUDE = b".git/info/exclude"


@dataclass(frozen=True, slots=True)
class Selection:
    """What the walk found."""

    files: tuple[str, ...]
    """Relative paths of regular files, ordered as bytes."""
    left_out: tuple[LeftOut, ...]
    """In the same order. An ignored folder stands here once, for all that is in it."""
    complete: bool = True
    """Whether the walk came to its end. If not, the last entry of `left_out` says where it stopped."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One name in a folder."""

    path: bytes
    kind: str
    """"folder", "file", "link" or "special"."""

    @property
    def order(self) -> bytes:
        """A folder is ordered as what is in it: with the slash."""
        return self.path + b"/" if self.kind == "folder" else self.path


class _OutOfBudgetError(Exception):
    """The walk has looked at as much as it may."""


def select(
    root_fd: int, root: Path, narrowing: Narrowing | None = None, unsaved: Iterable[str] = ()
) -> Selection:
    """Walks the folder `root`, opened as `root_fd`. Raises OSError only if the root itself cannot be listed.

    The files of `unsaved` are treated as if they stood on the disk, and so do the folders they are in, unless
    something else stands there.
    """
    walk = _Walk(root_fd, root, narrowing or Narrowing(), _in_folders(unsaved))
    complete = walk.run()
    return Selection(tuple(walk.files), tuple(walk.left_out), complete)


def _in_folders(paths: Iterable[str]) -> dict[bytes, set[_Entry]]:
    """What each folder has in it if these are all the files."""
    inside: dict[bytes, set[_Entry]] = {}
    for path in paths:
        if path_fault(path):
            continue
        entry = _Entry(path.encode(), "file")
        while entry.path:
            folder = entry.path.rpartition(b"/")[0]
            inside.setdefault(folder, set()).add(entry)
            entry = _Entry(folder, "folder")
    return inside


class _Walk:
    """One walk."""

    def __init__(
        self, root_fd: int, root: Path, narrowing: Narrowing, unsaved: dict[bytes, set[_Entry]]
    ) -> None:
        self.root_fd = root_fd
        self.real_root = os.path.realpath(os.fsencode(root))
        self.narrowing = narrowing
        self.unsaved = unsaved
        self.files: list[str] = []
        self.left_out: list[LeftOut] = []
        self.looked_at = 0
        self.comparisons = 0

    def run(self) -> bool:
        """Whether it came to its end."""
        rules = Rules(self.narrowing, git=self._ignore_file(_GIT_EXCLUDE, base=b""))
        open_folders = [self._enter(b"", rules, self._list(b""))]
        while open_folders:
            entry_and_rules = next(open_folders[-1], None)
            if entry_and_rules is None:
                open_folders.pop()
                continue
            entry, rules = entry_and_rules
            try:
                self._count(rules)
                inside = self._look_at(entry, rules)
            except _OutOfBudgetError as error:
                rest = f"{error}: neither this nor anything behind it in the order of paths"
                self.left_out.append(LeftOut(shown(entry.path), "budget", rest))
                return False
            if inside is not None:
                open_folders.append(self._enter(entry.path, rules, inside))
        return True

    def _count(self, rules: Rules) -> None:
        if self.looked_at >= MAX_ENTRIES:
            raise _OutOfBudgetError(f"{MAX_ENTRIES:,} names were looked at")
        if self.comparisons + len(rules) > MAX_COMPARISONS:
            raise _OutOfBudgetError("the ignore files have too many rules for so many names")
        self.looked_at += 1
        self.comparisons += len(rules)

    def _look_at(self, entry: _Entry, rules: Rules) -> list[_Entry] | None:
        """Files it as a file or as left out; returns what is inside if it is a folder to enter."""
        path = shown(entry.path)
        why = _bad_name(entry.path) or rules.why_out(entry.path, is_folder=entry.kind == "folder")
        if why is None and entry.kind == "folder":
            why = skipped_folder(path)
        elif why is None and entry.kind == "link":
            why = self._link(entry.path)
        elif why is None and entry.kind == "special":
            why = LeftOut(path, "special", "neither a file nor a folder")
        if why is not None:
            self.left_out.append(why)
        elif entry.kind == "folder":
            return self._inside(entry.path)
        else:
            self.files.append(path)
        return None

    def _inside(self, path: bytes) -> list[_Entry] | None:
        if path.count(b"/") >= MAX_DEPTH:
            self.left_out.append(LeftOut(shown(path), "budget", f"more than {MAX_DEPTH} folders deep"))
            return None
        try:
            entries = self._list(path)
        except OSError as error:
            self.left_out.append(why_unread(path, error))
            return None
        if is_virtual_environment(path, {entry.path.rpartition(b"/")[2] for entry in entries}):
            self.left_out.append(LeftOut(shown(path), "ignored", "a virtual environment"))
            return None
        return entries

    def _list(self, path: bytes) -> list[_Entry]:
        """What is in a folder, in order; no more than one name beyond what may still be looked at."""
        most = MAX_ENTRIES - self.looked_at + 1
        unsaved = self.unsaved.get(path, set())
        try:
            with open_folder(self.root_fd, path) as folder_fd, os.scandir(folder_fd) as listing:
                entries = _first(most, (_entry(path, item) for item in listing))
        except FileNotFoundError:
            if not unsaved:
                raise
            entries = []
        if unsaved:
            on_disk = {entry.path for entry in entries}
            entries = _first(most, [*entries, *(entry for entry in unsaved if entry.path not in on_disk)])
        return entries

    def _enter(self, path: bytes, rules: Rules, entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, Rules]]:
        """Each entry with the rules that hold for it: those of deeper folders are stronger."""
        files = {entry.path for entry in entries if entry.kind == "file"}
        own, git = (path + b"/" + name if path else name for name in (_OWN_IGNORE, _GIT_IGNORE))
        inside = rules.inside(
            path,
            own=self._ignore_file(own) if own in files else (),
            git=self._ignore_file(git) if git in files else (),
        )
        return ((entry, inside) for entry in entries)

    def _ignore_file(self, path: bytes, base: bytes | None = None) -> tuple[IgnoreFile, ...]:
        """One that cannot be read rules nothing; as a file of the workspace it is reported like any other."""
        try:
            return (IgnoreFile(path, read_file(self.root_fd, path, MAX_IGNORE_BYTES), base),)
        except OSError:
            return ()

    def _link(self, path: bytes) -> LeftOut:
        target = os.path.realpath(os.path.join(self.real_root, path))  # noqa: PTH118 - bytes, not Path
        if target == self.real_root or target.startswith(self.real_root.rstrip(b"/") + b"/"):
            return LeftOut(shown(path), "link", "a symbolic link; what it leads to stands at its own path")
        return LeftOut(shown(path), "outside", "a symbolic link that leads out of the workspace")


def _first(most: int, entries: Iterable[_Entry]) -> list[_Entry]:
    wanted = (entry for entry in entries if entry.path.rpartition(b"/")[2].lower() != VCS_FOLDER)
    return heapq.nsmallest(most, wanted, key=lambda entry: entry.order)


def _entry(folder: bytes, item: os.DirEntry[str]) -> _Entry:
    name = os.fsencode(item.name)
    path = folder + b"/" + name if folder else name
    try:
        if item.is_symlink():
            return _Entry(path, "link")
        if item.is_dir(follow_symlinks=False):
            return _Entry(path, "folder")
        return _Entry(path, "file" if item.is_file(follow_symlinks=False) else "special")
    except OSError:
        return _Entry(path, "special")


def _bad_name(path: bytes) -> LeftOut | None:
    """A name stands in a header line and in answers: it must be text, and one line."""
    name = path.rpartition(b"/")[2]
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return LeftOut(shown(path), "name", "the name is not UTF-8")
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text):
        return LeftOut(shown(path), "name", "the name has control characters")
    return None
