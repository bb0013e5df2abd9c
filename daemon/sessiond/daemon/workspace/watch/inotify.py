"""A thin cover over inotify(7), so that every event of the kernel is seen: also the one that says some were lost.

The library for this, watchfiles, drops that event (samuelcolvin/watchfiles#348), and follows links while it looks for
folders: a link to `/` in a workspace makes it watch the whole machine. Both were seen with its release 1.3.0. It serves
where there is no inotify (`portable.py`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple

MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
Q_OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
ONLYDIR: Final = 0x1000000
EXCL_UNLINK: Final = 0x4000000
ISDIR: Final = 0x40000000

# Neither OPEN nor ACCESS: that somebody reads, the daemon itself for one, is no change.
_WANTED: Final = (
    MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
)
_HEAD: Final = struct.Struct("iIII")
_AT_ONCE: Final = 64 * 1024
"""Bytes of one read: about two thousand events."""


class Event(NamedTuple):
    """One event."""

    watch: int
    """What `Inotify.watch` returned for the folder; -1 if it is about the queue itself."""
    mask: int
    name: bytes
    """What it happened to, in that folder; empty if to the folder itself."""


class Inotify:
    """One queue of events. Every method raises OSError as the kernel does."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
        self.fd = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, folder_fd: int) -> int:
        """The number of the watch on exactly this folder; the one it has, if it is watched.

        By descriptor, since the folders on the way to a path can be exchanged for links at any moment.
        """
        path = b"/proc/self/fd/%d" % folder_fd
        return _checked(self._libc.inotify_add_watch(self.fd, path, _WANTED | ONLYDIR | EXCL_UNLINK))

    def forget(self, watch: int) -> None:
        """Ends one watch. Nothing happens if the kernel has ended it already."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Event]:
        """The next events in their order; empty if there is none now."""
        try:
            data = os.read(self.fd, _AT_ONCE)
        except BlockingIOError:
            return []
        events: list[Event] = []
        at = 0
        while at < len(data):
            watch, mask, _cookie, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            events.append(Event(watch, mask, data[at : at + length].rstrip(b"\0")))
            at += length
        return events

    def close(self) -> None:
        """Ends all watches."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        # The kernel's words for this are "No space left on device", which sends people to the wrong place.
        text = "fs.inotify.max_user_watches is reached" if code == errno.ENOSPC else os.strerror(code)
        raise OSError(code, text)
    return result
