"""Changes on systems without inotify, from watchfiles, which uses what the system has (FSEvents on macOS).

Of lost events it says nothing, so they cannot be told here.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Final

from watchfiles import Change
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from sessiond.daemon.workspace.skip import is_virtual_environment, skipped_folder
from sessiond.daemon.workspace.watch.hints import Hints
from sessiond.daemon.workspace.watch.interest import VENV_MARKS, Interest
from sessiond.daemon.workspace.watch.root import Identity, root_identity
from sessiond.daemon.workspace.watch.thread import OwnThread

_QUIET_MS: Final = 75
_LONGEST_MS: Final = 1_500


class PortableSource:
    """See `source.Source`."""

    settles = True

    def __init__(self, root: Path, interest: Interest, thread: OwnThread) -> None:
        # Events carry real paths, also where the root is a link.
        self._root = os.path.realpath(root)
        self._interest = interest
        self._thread = thread
        self._stopped = threading.Event()
        self._notify: RustNotify | None = None
        self.identity: Identity | None = None
        """See `source.Source.identity`."""

    async def open(self) -> None:
        """See `source.Source.open`."""
        await self._thread.run(self._open)

    async def wait(self, seconds: float) -> Hints:
        """See `source.Source.wait`."""
        return await self._thread.run(self._wait, seconds)

    async def look_again(self) -> Hints:
        """See `source.Source.look_again`. All is watched here, and sorted out afterwards."""
        return Hints()

    def stop(self) -> None:
        """See `source.Source.stop`."""
        self._stopped.set()

    async def close(self) -> None:
        """See `source.Source.close`."""
        await self._thread.run(self._close)

    def _open(self) -> None:
        self.identity = root_identity(Path(self._root))
        try:
            self._notify = RustNotify([self._root], False, False, 300, True, True)
        except (RuntimeError, ValueError) as error:
            raise OSError(errno.EIO, str(error)) from error

    def _close(self) -> None:
        if self._notify is not None:
            self._notify.close()
        self._notify = None

    def _wait(self, seconds: float) -> Hints:
        assert self._notify is not None
        try:
            changes = self._notify.watch(_LONGEST_MS, _QUIET_MS, max(1, int(seconds * 1000)), self._stopped)
        except WatchfilesRustInternalError:
            # A name that is no UTF-8, for one. It says the same for ever after, so a new one takes its place.
            self._close()
            self._open()
            return Hints(lost=True)
        hints = Hints()
        if isinstance(changes, set):
            skipped: dict[str, bool] = {}
            for change, path in changes:
                self._take_in(change, path, hints, skipped)
        return hints

    def _take_in(self, change: int, path: str, hints: Hints, skipped: dict[str, bool]) -> None:
        if path == self._root:
            return
        inner = path.removeprefix(self._root.rstrip("/") + "/")
        if inner == path:
            return
        folder = inner.rpartition("/")[0]
        if folder not in skipped:
            skipped[folder] = self._is_skipped(folder)
        only = self._interest.only(os.fsencode(folder))
        if skipped[folder] or (only is not None and os.fsencode(inner.rpartition("/")[2]) not in only):
            return
        whole = Path(path)
        is_folder = whole.is_dir() and not whole.is_symlink()
        if is_folder and (change == Change.modified or not self._interest.enters(os.fsencode(inner))):
            return
        if skipped_folder(inner) is None and self._interest.counts(inner):
            hints.tell(inner)

    def _is_skipped(self, folder: str) -> bool:
        """Whether it or one that it is in never counts."""
        path = ""
        for part in folder.split("/") if folder else ():
            path = f"{path}/{part}" if path else part
            if not self._interest.enters(os.fsencode(path)) or self._is_environment(path):
                return True
        return False

    def _is_environment(self, path: str) -> bool:
        there = {mark for mark in VENV_MARKS if os.path.lexists(os.fsencode(f"{self._root}/{path}/") + mark)}
        return is_virtual_environment(os.fsencode(path), there)
