"""How much there may be, and what goes when there is more. Belongs to the writer's thread.

The least recently used goes first, pinned spaces last, and of what was used together the deepest, which is of no use
without the rest.
"""

from __future__ import annotations

import contextlib

from sessiond.daemon.engine.disk.catalogue import Catalogue, Entry
from sessiond.daemon.engine.disk.counts import Counts
from sessiond.daemon.engine.disk.folder import MAX_FILES, Filed, Folder
from sessiond.daemon.engine.disk.index import FAR

KEEP_FREE = 1 << 30
"""Bytes of the file system that are left to everybody else."""
EVICT_PARTS = 64
"""Of what there is room for, one part more than needed is freed at a time. Not of the limit: on a disk that is nearly full
that would be all.
"""
MAX_TOKEN_BYTES = 1 << 28
"""Of memory for the entries' tokens. As many take 1.5 TB of SmolLM2's KV, and files made on purpose take none to speak of."""


class Room:
    """Within `limit` bytes, and no more than leave `keep_free` bytes of the file system. Its methods raise OSError."""

    def __init__(
        self, folder: Folder, catalogue: Catalogue, counts: Counts, limit: int, keep_free: int
    ) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._counts = counts
        self._limit = limit
        self._keep_free = keep_free
        self.pinned: frozenset[bytes] = frozenset()
        """The salts of the spaces that are evicted last."""

    def make(self, size: int, entry: Entry) -> bool:
        """Evict until so many more bytes fit. Nothing goes that is as young as `entry`: that is what it stands on. And
        nothing pinned goes for what is not.
        """
        most = self._all() - size
        if most >= 0 and not self._fits(most):
            self._evict(most, self._goes_for(entry, entry.used))
        return self._fits(most)

    def could_be(self, size: int, entry: Entry) -> bool:
        """Whether there would be room if the entry were asked for now: only what was used since keeps it out."""
        used = entry.used
        others = sum(each.size for each in self._goes_for(entry, FAR) if each.used != used)
        return self._catalogue.size - others <= self._all() - size

    def give(self, size: int, entry: Entry) -> None:
        """Evict so many bytes that are older than the entry, as if there were no room for them."""
        self._evict(self._catalogue.size - size, self._goes_for(entry, entry.used))

    def trim(self, files: dict[str, Filed], known: dict[str, Entry]) -> list[str]:
        """Before anything is read: remove the oldest of these files until the rest has room, since a folder may hold more
        than memory. The names of the rest, the youngest first. `known` are the entries whose last use is known.
        """
        names = sorted(files, key=lambda name: _age(name, files[name], known.get(name)))
        left = sum(filed.size for filed in files.values())
        room, gone = min(self._limit, left + self._folder.free() - self._keep_free), 0
        for name in names:
            if left <= room:
                break
            left -= files[name].size
            gone += 1
            self.leave(name)
        return list(reversed(names[gone:]))

    def leave(self, name: str) -> None:
        """Remove a file that was found and has no room, or pass it over if that is not possible."""
        with contextlib.suppress(OSError):
            self._folder.remove(name)
        self._catalogue.note_removed(name)
        self._counts.evicted += 1

    def has_memory_for(self, entry: Entry) -> bool:
        """Whether its tokens have room too."""
        return self._catalogue.token_bytes + len(entry.label.tokens) <= MAX_TOKEN_BYTES

    def _all(self) -> int:
        """Bytes that all entries together may take: the limit, or less where the file system is nearly full."""
        return min(self._limit, self._catalogue.size + self._folder.free() - self._keep_free)

    def _fits(self, most: int) -> bool:
        return (
            self._catalogue.size <= most
            and len(self._catalogue) <= MAX_FILES
            and self._catalogue.token_bytes <= MAX_TOKEN_BYTES
        )

    def _goes_for(self, entry: Entry, before: int) -> list[Entry]:
        """What may be evicted for an entry and was last used before then, in the order in which it goes."""
        young_last = [each for each in self._catalogue.oldest() if each.used < before]
        loose = [each for each in young_last if each.label.salt not in self.pinned]
        if entry.label.salt not in self.pinned:
            return loose
        return [*loose, *(each for each in young_last if each.label.salt in self.pinned)]

    def _evict(self, most: int, goes: list[Entry]) -> None:
        """Remove the first of these until the rest fits, or none if it would be for nothing."""
        if self._catalogue.size - sum(entry.size for entry in goes) > most:
            return
        # A little more than needed, so that not every write has to look for the oldest.
        most -= max(0, most) // EVICT_PARTS
        for entry in goes:
            if self._fits(most):
                return
            self._folder.remove(entry.label.name)  # first: what cannot be removed can still be read
            self._catalogue.remove(entry)
            self._counts.evicted += 1


def written_at(filed: Filed) -> int:
    """Nanoseconds since the epoch, whatever somebody made of the file's time."""
    return max(0, min(filed.mtime_ns, FAR - 1))


def _age(name: str, filed: Filed, row: Entry | None) -> tuple[int, int]:
    """What rises with use; of what was used together, the last of the way is the oldest."""
    return (row.used if row is not None else written_at(filed)), -int(name.rpartition("-")[2])
