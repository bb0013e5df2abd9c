"""How much there may be, and what goes when there is more. Belongs to the writer's thread.

One budget counts for the folders of all engines. Those that run share it: each may have as much as the others leave of it, and
its even part in any case. What is left of engines that do not run goes as what is ours does.

The least recently used goes first, pinned spaces last, and of what was used together the deepest, which is of no use
without the rest.
"""

from __future__ import annotations

import contextlib

from sessiond.daemon.engine.disk.catalogue import Catalogue, Entry
from sessiond.daemon.engine.disk.counts import Counts
from sessiond.daemon.engine.disk.folder import MAX_FILES, Filed, Folder, start_of
from sessiond.daemon.engine.disk.index import FAR, last_used
from sessiond.daemon.engine.disk.others import Left, Others

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
        self,
        folder: Folder,
        catalogue: Catalogue,
        counts: Counts,
        others: Others,
        limit: int,
        keep_free: int,
    ) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._counts = counts
        self._others = others
        self._limit = limit
        self._keep_free = keep_free
        self.pinned: frozenset[bytes] = frozenset()
        """The salts of the spaces that are evicted last."""

    def make(self, size: int, entry: Entry) -> bool:
        """Evict until so many more bytes fit. Nothing goes that is as young as `entry`: that is what it stands on. And
        nothing pinned goes for what is not.
        """
        self._others.look()
        most = self._all(self._taken) - size
        if most >= 0 and not self._fits(most):
            self._evict(most, entry.used, self._is_pinned(entry))
        return self._fits(most)

    def could_be(self, size: int, entry: Entry) -> bool:
        """Whether there would be room if the entry were asked for now: only what was used since keeps it out."""
        goes = self._goes(FAR, self._is_pinned(entry), [])
        stays = self._catalogue.size - sum(each.size for each in goes if each.used != entry.used)
        return stays <= self._all(self._taken) - size

    def give(self, size: int, entry: Entry) -> None:
        """Evict so many bytes that are older than the entry, as if there were no room for them."""
        self._evict(self._taken - size, entry.used, self._is_pinned(entry))

    def keep(self) -> None:
        """Evict what is more than our part by now, since others came to run beside us."""
        self._others.look()
        most = self._part()
        if self._taken > most:
            self._evict(most, FAR, pinned=True)

    def trim(self, files: dict[str, Filed], known: dict[str, Entry]) -> list[str]:
        """Before anything is read: remove the oldest of these files, and of what others left, until the rest has room,
        since a folder may hold more than memory. The names of those that stay, the youngest first. `known` are the entries
        whose last use is known.
        """
        self._others.look()
        ages = {name: (last_used(filed, known.get(name)), -start_of(name)) for name, filed in files.items()}
        held = sum(filed.size for filed in files.values())
        if self._over(held) > 0:
            for name in self._oldest_files(files, ages, held):
                self.leave(name)
                del ages[name]
        return sorted(ages, key=ages.__getitem__, reverse=True)

    def _oldest_files(
        self, files: dict[str, Filed], ages: dict[str, tuple[int, int]], held: int
    ) -> list[str]:
        """Which files, of so many bytes, are among the oldest that have to go. What others left of these is removed."""
        found: list[str] = []
        with self._others.left() as left:
            over = self._over(held)  # asked again: what could not be opened counts no more
            goes: list[str | Left] = [*files, *left]
            for each in sorted(goes, key=lambda one: ages[one] if isinstance(one, str) else _age(one)):
                if over <= 0:
                    break
                if isinstance(each, str):
                    found.append(each)
                    over -= files[each].size
                elif self._remove(each):
                    over -= each.size
        return found

    def _over(self, held: int) -> int:
        """Bytes that have to go if we hold so many."""
        taken = held + self._others.left_bytes
        return taken - self._all(taken)

    def leave(self, name: str) -> None:
        """Remove a file that was found and has no room, or pass it over if that is not possible."""
        with contextlib.suppress(OSError):
            self._folder.remove(name)
        self._catalogue.note_removed(name)
        self._counts.evicted += 1

    def has_memory_for(self, entry: Entry) -> bool:
        """Whether its tokens have room too."""
        return self._catalogue.token_bytes + len(entry.label.tokens) <= MAX_TOKEN_BYTES

    @property
    def _taken(self) -> int:
        """Bytes that could be evicted: ours, and what others left."""
        return self._catalogue.size + self._others.left_bytes

    def _part(self) -> int:
        """Bytes that these may have of the budget."""
        others = self._others
        return max(self._limit // (others.running + 1), self._limit - others.running_bytes)

    def _all(self, taken: int) -> int:
        """The same, or less where the file system is nearly full."""
        return min(self._part(), taken + self._folder.free() - self._keep_free)

    def _fits(self, most: int) -> bool:
        return (
            self._taken <= most
            and len(self._catalogue) <= MAX_FILES
            and self._catalogue.token_bytes <= MAX_TOKEN_BYTES
        )

    def _is_pinned(self, entry: Entry) -> bool:
        return entry.label.salt in self.pinned

    def _goes(self, before: int, pinned: bool, left: list[Left]) -> list[Entry | Left]:
        """What may be evicted and was last used before then, in the order in which it goes; with or without the pinned."""
        ours = [each for each in self._catalogue.oldest() if each.used < before]
        loose: list[Entry | Left] = [each for each in ours if not self._is_pinned(each)]
        loose += [each for each in left if each.used < before]
        loose.sort(key=_age)
        return [*loose, *(each for each in ours if self._is_pinned(each))] if pinned else loose

    def _evict(self, most: int, before: int, pinned: bool) -> None:
        """Remove the first that may go until the rest fits, or none if it would be for nothing."""
        short = self._taken > most  # what others left takes bytes, and nothing else that may be short
        with self._others.left() if short else contextlib.nullcontext(list[Left]()) as left:
            goes = self._goes(before, pinned, left)
            waiting = self._others.left_bytes - sum(each.size for each in left)
            if self._taken - sum(each.size for each in goes) - most > waiting:
                return
            if waiting > 0:
                # There is more in folders that are not held now, whose turn comes: ours do not go before them.
                goes = [each for each in goes if isinstance(each, Left)]
            # A little more than needed, so that not every write has to look for the oldest.
            most -= max(0, most) // EVICT_PARTS
            for each in goes:
                if self._fits(most):
                    return
                self._remove(each)

    def _remove(self, each: Entry | Left) -> bool:
        if isinstance(each, Left):
            gone = self._others.remove(each)
        else:
            self._folder.remove(each.label.name)  # first: what cannot be removed can still be read
            self._catalogue.remove(each)
            gone = True
        self._counts.evicted += gone
        return gone


def _age(each: Entry | Left) -> tuple[int, int]:
    """What rises with use; of what was used together, the last of the way is the oldest."""
    return each.used, -(each.start if isinstance(each, Left) else each.label.start)
