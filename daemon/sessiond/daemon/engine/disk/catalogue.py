"""What is on disk, as known in memory: every entry without its payload. Asking it never waits for a disk.

The engine's thread asks while the tier's threads write and evict, so every method takes a lock, and none holds it for
longer than a walk over dictionaries.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sessiond.daemon.engine.disk.folder import Filed
from sessiond.daemon.engine.disk.format import MAX_TOKENS, Label
from sessiond.daemon.engine.disk.keys import LEAST, STEP, TOKEN_BYTES, Chain, Space, next_cut


@dataclass(eq=False, slots=True)
class Entry:
    """One entry. Its file is `filed`; None while it waits to be written."""

    label: Label
    used: int
    """When it, or what stands on it, was last of use: nanoseconds since the epoch. It counts while the entry waits too: how
    long a slow disk lets it wait must not make it older than what was written in the meantime, or it would be evicted as
    soon as it is there.
    """
    filed: Filed | None = None

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return self.filed.size if self.filed is not None else 0


@dataclass(frozen=True, slots=True)
class Found:
    """An entry on the way of some tokens, and how many of its tokens are theirs: all of them, but where the ways part."""

    space: Space
    entry: Entry
    matched: int

    @property
    def start(self) -> int:
        """Position of its first token."""
        return self.entry.label.start

    @property
    def end(self) -> int:
        """Position behind the last token that matches."""
        return self.start + self.matched

    def gained(self, at: int) -> int:
        """Tokens that it brings to who has all those before `at`."""
        return self.end - max(at, self.start)


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens whose KV is not on disk and should be: an entry to be."""

    space: Space
    label: Label
    stamp: int
    """When it was first asked for, as `Entry.used`; that of all runs of one way is the same."""

    @property
    def start(self) -> int:
        """Position of its first token."""
        return self.label.start

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.label.end


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written to the index."""

    changed: list[Entry]
    removed: list[str]


class Catalogue:
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, Entry] = {}
        self._by_place: dict[tuple[bytes, bytes], list[Entry]] = {}
        """By the key of what stands before them, and by their own beginning: thousands of questions after one prefix must not
        be compared with each other at every walk.
        """
        self._blocked: set[str] = set()
        """Names that are neither found nor to be written again."""
        self._changed: set[Entry] = set()
        self._removed: set[str] = set()
        self._clock = 0
        self.size = 0
        """Bytes of all files."""
        self.token_bytes = 0
        """Of memory, for all entries' tokens."""

    def __len__(self) -> int:
        return len(self._by_name)

    # What stands.

    def ahead(self, chain: Chain, at: int) -> list[Found]:
        """The written entries along these tokens that go on behind `at`, rising: the first of them may begin before it. What
        lies between them has to be computed.
        """
        with self._lock:
            found = list(self._cover(chain, len(chain), written=True))
            # What still waits is of use to who asks now, and as young.
            self._touch([*found, *self._cover(chain, len(chain), written=False)], self._now())
        return [each for each in found if each.end > at]

    def missing(self, chain: Chain, end: int) -> list[Run]:
        """What of the first `end` of these tokens is not on disk nor on its way there, cut as entries are, rising."""
        with self._lock:
            stamp = self._now()
            found = list(self._cover(chain, end, written=False))
            self._touch(found, stamp)
            runs = [_run(chain, start, stop, stamp) for start, stop in _gaps(found, end)]
            return [run for run in runs if run.label.name not in self._blocked]

    def edge(self, chain: Chain, start: int) -> Run | None:
        """The run of these tokens from `start` on, as one entry, if the disk has all before it and nothing of it."""
        end = len(chain)
        with self._lock:
            found = list(self._cover(chain, end, written=False))
            whole = all(a.end == b.start for a, b in itertools.pairwise(found))
            reached = found[-1].end if found else 0
            if (
                not whole
                or (found and found[0].start)
                or reached != start
                or not LEAST <= end - start <= MAX_TOKENS
            ):
                return None
            stamp = self._now()
            self._touch(found, stamp)
            run = _run(chain, start, end, stamp)
            return None if run.label.name in self._blocked else run

    def holds(self, name: str) -> bool:
        """Whether an entry of that name is written or on its way."""
        with self._lock:
            return name in self._by_name

    def oldest(self) -> list[Entry]:
        """The written entries, the least recently used first; of those used together the last of the way first, since it
        is of no use without the others.
        """
        with self._lock:
            written = [entry for entry in self._by_name.values() if entry.filed is not None]
        return sorted(written, key=lambda entry: (entry.used, -entry.label.start))

    # What changes.

    def add(self, entry: Entry, *, known: bool = False) -> bool:
        """Take an entry in, unless one of its name is there or blocked. One that is `known` is in the index."""
        name = entry.label.name
        with self._lock:
            if name in self._by_name or name in self._blocked:
                return False
            self._put(entry)
            if not known and entry.filed is not None:
                self._changed.add(entry)
            return True

    def reserve(self, run: Run) -> Entry | None:
        """The entry of that run, which is on its way now if it was not there; None if it is not to be written."""
        with self._lock:
            name = run.label.name
            if name in self._blocked:
                return None
            entry = self._by_name.get(name)
            if entry is None:
                entry = Entry(run.label, run.stamp)
                self._put(entry)
            return entry

    def written(self, entry: Entry, filed: Filed) -> None:
        """An entry that was on its way is on the disk."""
        with self._lock:
            if self._by_name.get(entry.label.name) is entry:
                entry.filed = filed
                self.size += filed.size
                self._changed.add(entry)

    def note_removed(self, name: str) -> None:
        """The index has an entry that is not there."""
        with self._lock:
            self._removed.add(name)

    def remove(self, entry: Entry) -> None:
        """Forget an entry, but not another one that has taken its name since. Twice is once."""
        with self._lock:
            if self._by_name.get(entry.label.name) is entry:
                self._forget(entry.label.name)

    def block(self, name: str) -> None:
        """Forget an entry, and take none of its name any more."""
        with self._lock:
            self._forget(name)
            self._blocked.add(name)

    def take_changes(self) -> Changes:
        """What changed since the last call."""
        with self._lock:
            changes = Changes(list(self._changed), list(self._removed))
            self._changed.clear()
            self._removed.clear()
        return changes

    # How it is done, under the lock.

    def _cover(self, chain: Chain, end: int, *, written: bool) -> Iterator[Found]:
        """The entries on the way of the first `end` tokens. Where there is none, the way goes on at the next fixed cut:
        what an eviction or a fault took from its middle does not cost the rest.
        """
        position = 0
        while position < end:
            best = self._best(chain, position, end, written=written)
            if best is None:
                position = (position // STEP + 1) * STEP
            else:
                yield best
                position = best.end

    def _best(self, chain: Chain, position: int, end: int, *, written: bool) -> Found | None:
        """The entry that begins there and goes along furthest. One that parts at once is none: it would be brought back
        whole for a few tokens.
        """
        best: Found | None = None
        key, beginning = chain.key(position), chain.run(position, position + LEAST)
        for entry in (*self._by_place.get((key, beginning), ()), *self._by_place.get((key, b""), ())):
            if (written and entry.filed is None) or entry.label.start != position:
                continue
            matched = _common(entry.label.tokens, chain.run(position, min(end, position + entry.label.count)))
            enough = matched >= min(LEAST, entry.label.count)
            if matched and enough and (best is None or matched > best.matched):
                best = Found(chain.space, entry, matched)
        return best

    def _touch(self, found: list[Found], stamp: int) -> None:
        for each in found:
            each.entry.used = stamp
            if each.entry.filed is not None:
                self._changed.add(each.entry)

    def _now(self) -> int:
        """The time, made to rise: what is set back by hand must not make old entries young."""
        self._clock = max(self._clock + 1, time.time_ns())
        return self._clock

    def _put(self, entry: Entry) -> None:
        self._clock = max(self._clock, entry.used)
        self._by_name[entry.label.name] = entry
        self._by_place.setdefault(_place(entry.label), []).append(entry)
        self.size += entry.size
        self.token_bytes += len(entry.label.tokens)

    def _forget(self, name: str) -> None:
        entry = self._by_name.pop(name, None)
        if entry is None:
            return
        place = _place(entry.label)
        siblings = self._by_place[place]
        siblings.remove(entry)
        if not siblings:
            del self._by_place[place]
        self.size -= entry.size
        self.token_bytes -= len(entry.label.tokens)
        self._changed.discard(entry)
        self._removed.add(name)


def _place(label: Label) -> tuple[bytes, bytes]:
    """Where it is looked for. One of fewer than LEAST tokens has no beginning by which it could be: there are few."""
    return label.parent, label.tokens[: LEAST * TOKEN_BYTES] if label.count >= LEAST else b""


def _run(chain: Chain, start: int, end: int, stamp: int) -> Run:
    parent, key = chain.key(start), chain.key(end)
    return Run(chain.space, Label(chain.space.salt, parent, key, start, chain.run(start, end)), stamp)


def _gaps(found: list[Found], end: int) -> Iterator[tuple[int, int]]:
    """What lies between these entries, in pieces."""
    position = 0
    for start, stop in [*((each.start, each.end) for each in found), (end, end)]:
        while position < start:
            cut = min(next_cut(position), start)
            if cut - position >= LEAST or cut < end:
                yield position, cut
            position = cut
        position = stop


def _common(run: bytes, tokens: bytes) -> int:
    """How many tokens, from the first, are the same."""
    if run == tokens:
        return len(run) // TOKEN_BYTES
    low, high = 0, min(len(run), len(tokens)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        if run[: middle * TOKEN_BYTES] == tokens[: middle * TOKEN_BYTES]:
            low = middle
        else:
            high = middle - 1
    return low
