"""What editors ask of one workspace beyond its files: pins, and buffers that are not saved yet.

A buffer stands in for its file until that is written: then it is taken as saved. What counts is that the file was
written, not what it says now, because a formatter may have run over it. Content is asked too: a clock that ticks every
few milliseconds, and tools that set times back, hide a save that keeps the size.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sessiond.daemon.workspace.beneath import open_folder, open_root, read_file
from sessiond.daemon.workspace.classify import MAX_BYTES
from sessiond.daemon.workspace.order import BY_PATH, Order
from sessiond.daemon.workspace.paths import path_fault
from sessiond.daemon.workspace.wishes import Wishes
from sessiond.v1.errors import FieldViolation, InvalidInput, invalid

MAX_PATHS = 1_000
"""Pins of one workspace, and its buffers. More files than any window holds."""
MAX_BUFFERED_BYTES = 64 << 20
"""Bytes of UTF-8 in all buffers of one workspace."""
_MOST_TOLD = 64
"""Paths that one error names at most."""


class Mark(NamedTuple):
    """What changes when a file is written, in its place or by another file in its place."""

    mtime_ns: int
    size: int
    inode: int
    content: bytes
    """Its SHA-256; empty for a file that is too large for a prompt, or may not be read."""


@dataclass(frozen=True, slots=True)
class _Buffer:
    """A text, and its file as it was when the text was given."""

    text: str
    size: int
    """Bytes of UTF-8."""
    mark: Mark | None
    """None if there was no file."""


class Overlay:
    """The pins and buffers of one workspace. May be used from several threads; files are asked without its lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pinned: dict[str, None] = {}
        self._buffers: dict[str, _Buffer] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked."""
        return not self._pinned and not self._buffers

    def pin(self, paths: Sequence[str]) -> None:
        """Pin files, whether they exist or not; all of them or, where one is refused, none.

        Raises InvalidInput on `paths[i]` for what is no plain path beneath the root, and on `paths` for too many.
        """
        faults = [(index, fault) for index, path in enumerate(paths) if (fault := path_fault(path))]
        if faults:
            raise InvalidInput(
                [FieldViolation(f"paths[{index}]", fault) for index, fault in faults[:_MOST_TOLD]]
            )
        with self._lock:
            pinned = self._pinned | dict.fromkeys(paths)
            if len(pinned) > MAX_PATHS:
                raise invalid("paths", f"would make {len(pinned):,} pins, and {MAX_PATHS:,} is the limit")
            self._pinned = pinned

    def unpin(self, paths: Sequence[str]) -> None:
        """Take pins back. What is not pinned is no error."""
        with self._lock:
            gone = set(paths)
            self._pinned = {path: None for path in self._pinned if path not in gone}

    def set_buffer(self, root: Path, path: str, text: str) -> None:
        """Have `text` stand in for the file at `path`, whether that exists or not, until it is written.

        Asks the disk. Raises InvalidInput on `path` or `text`, also where the buffers would be too many or too large
        together; and as `open_root`.
        """
        fault = path_fault(path)
        if fault:
            raise invalid("path", fault)
        if "\0" in text:
            raise invalid("text", "has a NUL byte")
        size = len(text.encode())
        if size > MAX_BYTES:
            raise invalid("text", f"is longer than {MAX_BYTES} bytes")
        with open_root(root) as root_fd:
            buffer = _Buffer(text, size, _mark_of(root_fd, path))
        with self._lock:
            others = [each for name, each in self._buffers.items() if name != path]
            if len(others) >= MAX_PATHS:
                raise invalid("path", f"{MAX_PATHS:,} buffers are set, which is the limit")
            if sum(each.size for each in others) + size > MAX_BUFFERED_BYTES:
                raise invalid("text", f"all buffers together would be longer than {MAX_BUFFERED_BYTES} bytes")
            self._buffers[path] = buffer

    def release(self, path: str) -> None:
        """Take a buffer back. Where there is none, that is no error."""
        with self._lock:
            self._buffers.pop(path, None)

    def drop_saved(self, root: Path) -> None:
        """Forget the buffers whose files were written since. Asks the disk. Raises as `open_root`.

        A file that is gone was not written: its editor still holds the text.
        """
        with self._lock:
            asked = dict(self._buffers)
        if not asked:
            return
        with open_root(root) as root_fd:
            marks = {path: _mark_of(root_fd, path) for path in asked}
        with self._lock:
            for path, buffer in asked.items():
                is_saved = marks[path] is not None and marks[path] != buffer.mark
                # A text that was given meanwhile is newer than what the disk was asked about.
                if is_saved and self._buffers.get(path) is buffer:
                    del self._buffers[path]

    def wishes(self, order: Order = BY_PATH) -> Wishes:
        """All that is asked now, as one value: pins in the order in which they were made."""
        with self._lock:
            buffers = {path: buffer.text for path, buffer in self._buffers.items()}
            return Wishes(pinned=tuple(self._pinned), buffers=buffers, order=order)


def _mark_of(root_fd: int, path: str) -> Mark | None:
    """A file's mark; None where no regular file is reached without following a link."""
    parent, _, name = path.encode().rpartition(b"/")
    with contextlib.suppress(OSError), open_folder(root_fd, parent) as parent_fd:
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            return Mark(status.st_mtime_ns, status.st_size, status.st_ino, _hash_of(parent_fd, name))
    return None


def _hash_of(folder_fd: int, name: bytes) -> bytes:
    try:
        return hashlib.sha256(read_file(folder_fd, name, MAX_BYTES)).digest()
    except OSError:
        return b""
