"""The folders of one workspace that are watched through inotify, which itself knows nothing of trees.

A folder is watched first and listed then: what is made in it before the watch is found in the list, and what comes
after it is an event. So nothing can slip in between, however fast a folder is made and filled.

Everything here is synchronous, reads the disk, and belongs to one thread.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sessiond.daemon.workspace.beneath import open_folder
from sessiond.daemon.workspace.skip import is_virtual_environment
from sessiond.daemon.workspace.watch import inotify
from sessiond.daemon.workspace.watch.hints import Hints
from sessiond.daemon.workspace.watch.interest import (
    VENV_MARKS,
    Interest,
    as_text,
    decides_about_folder,
)
from sessiond.daemon.workspace.watch.root import Identity, identity_of

MAX_FOLDERS: Final = 100_000
"""Each takes about a kilobyte of the kernel's memory."""
MAX_NAMES: Final = 1_000_000
"""Names looked at in one walk."""
_MOST_READS: Final = 64
"""In one `drain`, so that it ends while somebody writes without pause."""

_LIMITS: Final = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_COMES: Final = inotify.CREATE | inotify.MOVED_TO
_GOES: Final = inotify.DELETE | inotify.MOVED_FROM


class StoppedError(Exception):
    """`Folders.stop` was called: nobody waits for the result any more."""


@dataclass(slots=True)
class _Folder:
    """One that is watched."""

    watch: int
    path: bytes
    only: frozenset[bytes] | None
    """The names that count in it; None for all."""
    folders: set[bytes] = field(default_factory=set[bytes])
    """The paths of those in it that are watched too."""


class Folders:
    """All watched folders beneath `root`. Raises OSError if it cannot be opened, or a limit is reached."""

    def __init__(self, root: Path, interest: Interest) -> None:
        self._root = root
        self._interest = interest
        self._stopped = threading.Event()
        self._by_watch: dict[int, _Folder] = {}
        self._by_path: dict[bytes, _Folder] = {}
        self._before: dict[int, _Folder] = {}
        self._names_left = 0
        self._inotify: inotify.Inotify | None = None
        self.identity: Identity | None = None
        """Of the root that is watched."""

    def open(self) -> int:
        """Watches the root and all below. Returns the descriptor that is readable when there are events."""
        self._inotify = inotify.Inotify()
        self._walk(b"", Hints())
        return self._inotify.fd

    def stop(self) -> None:
        """Ends a walk in progress, from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Ends all watches."""
        if self._inotify is not None:
            self._inotify.close()

    def drain(self) -> Hints:
        """What the events that have come say. Raises OSError if a limit is reached: some folder is not watched then."""
        hints = Hints()
        overflowed = False
        for _ in range(_MOST_READS):
            events = self._queue.read()
            overflowed = overflowed or any(event.mask & inotify.Q_OVERFLOW for event in events)
            for event in events:
                self._take_in(event, hints)
            if not events or hints.gone:
                break
        if overflowed and not hints.gone:
            # Folders may have come and gone unheard of.
            hints.merge(self.walk_again())
            hints.tell_all()
        return hints

    def walk_again(self) -> Hints:
        """Watches what is of interest now, and nothing else; tells what is in folders that were not watched before."""
        found = Hints()
        self._before = self._by_watch
        self._by_watch, self._by_path = {}, {}
        try:
            self._walk(b"", found)
            for watch in self._before.keys() - self._by_watch.keys():
                self._queue.forget(watch)
        finally:
            self._before = {}
        return found

    @property
    def _queue(self) -> inotify.Inotify:
        assert self._inotify is not None
        return self._inotify

    def _take_in(self, event: inotify.Event, hints: Hints) -> None:
        folder = self._by_watch.get(event.watch)
        if folder is None:
            return
        if not event.name:
            self._happened_to(folder, event.mask, hints)
        elif folder.only is None or event.name in folder.only:
            path = _join(folder.path, event.name)
            if event.mask & inotify.ISDIR:
                self._folder_changed(path, event.mask, hints)
                return
            self._tell(path, hints)
            if event.mask & (_COMES | _GOES) and decides_about_folder(folder.path, event.name):
                self._drop(folder)
                self._walk(folder.path, hints)

    def _happened_to(self, folder: _Folder, mask: int, hints: Hints) -> None:
        if mask & inotify.IGNORED:
            self._drop(folder)
        ended = inotify.IGNORED | inotify.DELETE_SELF | inotify.MOVE_SELF
        if folder.path == b"" and mask & ended:
            hints.gone = True

    def _folder_changed(self, path: bytes, mask: int, hints: Hints) -> None:
        known = self._by_path.get(path)
        if mask & _GOES:
            if known is not None:
                self._drop(known)
            # One name for all that went with it: a folder that is moved away says nothing of what is in it.
            if self._interest.enters(path):
                hints.tell(self._interest.stands_for(path))
        elif mask & _COMES or known is None:  # it came, or its permissions changed and it may be readable now
            if as_text(path) is None:
                hints.tell_all()
            if self._interest.enters(path):
                self._walk(path, hints)

    def _tell(self, path: bytes, hints: Hints) -> None:
        text = as_text(path)
        if text is None:
            hints.tell_all()
        elif self._interest.counts(text):
            hints.tell(text)

    def _walk(self, start: bytes, found: Hints) -> None:
        """Watches the folder at `start` and those below; tells what is in them, if they are new."""
        self._names_left = MAX_NAMES
        with self._opened_root(found) as root_fd:
            if root_fd is None:
                return
            waiting = [start]
            while waiting:
                waiting += self._enter(root_fd, waiting.pop(), found)

    @contextmanager
    def _opened_root(self, found: Hints) -> Generator[int | None, None, None]:
        """None if there is nothing or another folder at the root's path by now. Raises OSError the first time only."""
        try:
            root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            if self.identity is None:
                raise
            found.gone = True
            yield None
            return
        try:
            identity = identity_of(os.fstat(root_fd))
            self.identity = self.identity or identity
            found.gone = found.gone or identity != self.identity
            yield root_fd if identity == self.identity else None
        finally:
            os.close(root_fd)

    def _enter(self, root_fd: int, path: bytes, found: Hints) -> list[bytes]:
        """Watches one folder, if it can be opened; returns those in it that are to be watched."""
        if self._stopped.is_set():
            raise StoppedError
        try:
            with open_folder(root_fd, path) as folder_fd:
                watch = self._watch(folder_fd, path)
                if watch is None:
                    return []
                files, folders = self._list(folder_fd)
        except OSError as error:
            # One below the root that cannot be opened is for no prompt either; its parent tells if that changes.
            if path == b"" or error.errno in _LIMITS:
                raise
            return []
        names = {*files, *folders}
        is_environment = path != b"" and is_virtual_environment(path, names)
        only = VENV_MARKS if is_environment else self._interest.only(path)
        self._add(_Folder(watch, path, only))
        before = self._before.get(watch)
        if (before is None or before.path != path) and not is_environment:
            for name in files:
                if only is None or name in only:
                    self._tell(_join(path, name), found)
        inside = (
            _join(path, name) for name in folders if only is None or (name in only and not is_environment)
        )
        return [folder for folder in inside if self._interest.enters(folder)]

    def _watch(self, folder_fd: int, path: bytes) -> int | None:
        """The number of its watch; None if it was watched already, and so nothing in it can have been missed."""
        watch = self._queue.watch(folder_fd)
        known = self._by_watch.get(watch)
        if known is None:
            return watch
        if known.path == path:
            return None
        # It was moved here, and the event that says so is still to come.
        self._drop(known)
        return self._queue.watch(folder_fd)

    def _list(self, folder_fd: int) -> tuple[list[bytes], list[bytes]]:
        """The names of what is in a folder: everything else, and folders."""
        files: list[bytes] = []
        folders: list[bytes] = []
        with os.scandir(folder_fd) as listing:
            for item in listing:
                if self._names_left <= 0:
                    raise OSError(errno.ENOSPC, f"it has more than {MAX_NAMES:,} names")
                if self._stopped.is_set():
                    raise StoppedError
                self._names_left -= 1
                kind = folders if item.is_dir(follow_symlinks=False) else files
                kind.append(os.fsencode(item.name))
        return files, folders

    def _add(self, folder: _Folder) -> None:
        if len(self._by_watch) >= MAX_FOLDERS:
            raise OSError(errno.ENOSPC, f"it has more than {MAX_FOLDERS:,} folders")
        stale = self._by_path.get(folder.path)
        if stale is not None:
            self._drop(stale)
        self._by_watch[folder.watch] = self._by_path[folder.path] = folder
        parent = self._by_path.get(_parent(folder.path)) if folder.path else None
        if parent is not None:
            parent.folders.add(folder.path)

    def _drop(self, folder: _Folder) -> None:
        """Watches it and those in it no longer."""
        parent = self._by_path.get(_parent(folder.path)) if folder.path else None
        if parent is not None:
            parent.folders.discard(folder.path)
        waiting = [folder]
        while waiting:
            gone = waiting.pop()
            waiting += (self._by_path[path] for path in gone.folders)
            del self._by_path[gone.path], self._by_watch[gone.watch]
            self._queue.forget(gone.watch)


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
