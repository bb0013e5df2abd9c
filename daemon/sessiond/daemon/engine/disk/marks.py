"""What is in use right now, kept where it outlives the process: in the kernel's copy of a small file.

A backend may die of an entry. Then the mark that was set before the use still stands at the next start. Setting one is a
single write into a page that is there already; nothing is forced to the disk, since a power cut is no entry's fault.

The file has SLOTS records of 64 bytes: a state, how often the process died with the entry in use, its name, zeros.
"""

from __future__ import annotations

import os
import struct
import threading

from sessiond.daemon.engine.disk.folder import is_entry_name

SLOTS = 64
DEATHS = 2
"""After so many, without a good use in between, an entry is set aside."""
_SLOT = struct.Struct("<BB62s")
_FREE, _IN_USE, _SUSPECT = 0, 1, 2


class Marks:
    """See the module. `condemned` are the entries that are to be set aside, and `end` says that one is. Raises OSError when
    it is made.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._slots: dict[int, str] = {}
        self._deaths = _read(os.pread(file, SLOTS * _SLOT.size, 0))
        self.condemned = [name for name, deaths in self._deaths.items() if deaths >= DEATHS]
        self._slots.update(enumerate(self._deaths))
        records = b"".join(self._record(name, _SUSPECT) for name in self._deaths)
        # In place, so that a full disk has room for it, and at once, so that a death in between forgets no other. All of
        # the file, so that no later mark needs room either.
        os.pwrite(file, records.ljust(SLOTS * _SLOT.size, b"\0"), 0)
        os.ftruncate(file, SLOTS * _SLOT.size)

    def begin(self, name: str) -> None:
        """It is about to be used."""
        with self._lock:
            slot = self._slot(name)
            if slot is not None:
                self._set(slot, name, _IN_USE)

    def end(self, name: str) -> None:
        """The process outlived its use."""
        with self._lock:
            self._deaths.pop(name, None)
            for slot in [slot for slot, held in self._slots.items() if held == name]:
                del self._slots[slot]
                self._write(slot, bytes(_SLOT.size))

    def close(self) -> None:
        """Set no more marks: the file is about to be closed."""
        with self._lock:
            self._file = -1

    def _slot(self, name: str) -> int | None:
        """The entry's own slot, or a free one, or that of a suspect; None if all are in use, and then it has no mark."""
        suspects = [slot for slot, held in self._slots.items() if held in self._deaths]
        own = [slot for slot, held in self._slots.items() if held == name]
        free = (slot for slot in range(SLOTS) if slot not in self._slots)
        return next(iter([*own, *free, *suspects]), None)

    def _set(self, slot: int, name: str, state: int) -> None:
        self._slots[slot] = name
        self._write(slot, self._record(name, state))

    def _record(self, name: str, state: int) -> bytes:
        return _SLOT.pack(state, self._deaths.get(name, 0), name.encode())

    def _write(self, slot: int, record: bytes) -> None:
        if self._file >= 0:
            os.pwrite(self._file, record, slot * _SLOT.size)


def _read(data: bytes) -> dict[str, int]:
    """The names in the file, and how often the process died of each. What is no record is none."""
    found: dict[str, int] = {}
    for at in range(0, len(data) - _SLOT.size + 1, _SLOT.size):
        state, deaths, raw = _SLOT.unpack_from(data, at)
        name = raw.rstrip(b"\0").decode("ascii", "replace")
        if state in {_IN_USE, _SUSPECT} and is_entry_name(name):
            # No more than are needed: the count has one byte.
            found[name] = max(found.get(name, 0), min(deaths + (state == _IN_USE), DEATHS))
    return found
