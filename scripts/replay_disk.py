"""What a day writes to the disk, over the KV that was new in it.

New KV is that of every token that reached the disk in the day, each once: a token is one position after exactly the tokens
before it, in one space. Prefixes that the next save replaces are new, and so are questions and answers. What was computed and
never written is not: it would flatter the figure. What is written a second time is not either, nor is what stands beside
the KV: headers, checksums, the index, the marks, and what file systems round up.

Both sides are read from outside: the tokens from the entries' headers, the bytes from what the kernel says that the engine
wrote.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from compare_verdict import Outcome
from own_processes import daemon_of, engines_of
from sessiond.daemon.engine.disk.format import Damaged, Header, Label, read_header
from sessiond.daemon.engine.disk.keys import TOKEN_BYTES

AMPLIFICATION = 1.1
"""Bytes written over bytes of new KV."""
LEAST_KV = 1024
"""Bytes of each token's KV. With less of it the headers weigh more than what they stand before, which says nothing of a model."""
POLL_S = 0.5
QUIET_S = 12.0
"""A tier that wrote nothing for so long has brought its index up to date too, which it does every ten seconds."""
REST_S = 180.0


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry that was there at some moment."""

    label: Label
    payload_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """All entries of a day, also those that were evicted since, and what the engine wrote."""

    entries: list[Seen]
    process_bytes: int | None
    """As the kernel counts them, in whole pages; None where it does not, or if the engine was another one in the end."""

    def outcome(self) -> Outcome:
        """Figures, and what they are held against."""
        tokens = sum(each.label.count for each in self.entries)
        new = distinct_tokens(each.label for each in self.entries)
        payload = sum(each.payload_bytes for each in self.entries)
        found = Outcome(
            {
                "entries": len(self.entries),
                "new_tokens": new,
                "written_tokens": tokens,
                "kv_bytes": payload,
                "file_bytes": sum(each.file_bytes for each in self.entries),
                "process_bytes": self.process_bytes,
            }
        )
        name = "bytes the engine wrote, over those of new KV"
        if not new:
            found.not_measured.append(f"{name} (nothing was written)")
            return found
        kv = payload * new / tokens
        found.at_most("KV written, over new KV", payload / kv, AMPLIFICATION)
        if not self.process_bytes:
            found.not_measured.append(f"{name} (this file system does not count)")
            return found
        found.figures["beside_kv_each_entry"] = (self.process_bytes - payload) / len(self.entries)
        if payload / tokens >= LEAST_KV:
            found.at_most(name, self.process_bytes / kv, AMPLIFICATION)
        else:
            found.not_measured.append(f"{name} (a token's KV has less than {LEAST_KV} bytes here)")
        return found


class DiskWatch(threading.Thread):
    """Looks into the folder of a daemon whose engine runs, from when it is made until `rest`."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError if no engine, or more than one, runs there."""
        super().__init__(name="disk watch", daemon=True)
        daemon = daemon_of(folder)
        engines = engines_of(daemon) if daemon is not None else []
        if len(engines) != 1:
            raise ValueError(f"{len(engines)} engines run in {folder}")
        self._folder, self._engine = folder, engines[0]
        self._before = _wrote(self._engine)
        self._seen: dict[tuple[str, int], Seen] = {}
        """By name and time: one that was evicted and written again was written twice."""
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Look again and again: what is evicted is gone from the folder, and was written all the same."""
        while not self._over.wait(POLL_S):
            self._look()

    def rest(self) -> Traffic:
        """Wait until the day's last bytes are written; all of it."""
        until, quiet, last = time.monotonic() + REST_S, time.monotonic(), self._state()
        while time.monotonic() < min(until, quiet + QUIET_S):
            time.sleep(POLL_S)
            if (now := self._state()) != last:
                last, quiet = now, time.monotonic()
        self.stop()
        after = _wrote(self._engine)
        wrote = after - self._before if after is not None and self._before is not None else None
        return Traffic(list(self._seen.values()), wrote)

    def stop(self) -> None:
        """Look once more, and no longer. Twice is once."""
        self._over.set()
        self.join()
        self._look()

    def _state(self) -> tuple[int, int | None]:
        return len(self._seen), _wrote(self._engine)

    def _look(self) -> None:
        for place in self._folder.glob("state/kv/*/entries"):
            with contextlib.suppress(OSError), os.scandir(place) as listing:
                for item in listing:
                    self._note(item)

    def _note(self, item: os.DirEntry[str]) -> None:
        with contextlib.suppress(OSError, Damaged):  # it has gone meanwhile
            told = item.stat()
            key = (item.name, told.st_mtime_ns)
            if key not in self._seen:
                header = _header(item.path)
                self._seen[key] = Seen(header.label, header.payload_bytes, told.st_size)


def distinct_tokens(labels: Iterable[Label]) -> int:
    """How many tokens these entries have together, those that several have counted once."""
    rising = sorted(labels, key=lambda label: label.start)
    wanted = {label.parent for label in rising}
    paths: dict[bytes, bytes] = {}
    """The tokens before an entry, by the key of where it begins."""
    places = set[bytes]()
    for label in rising:
        path = paths.get(label.parent, b"") if label.start else b""
        seen = len(path) == label.start * TOKEN_BYTES
        # Where what stood before it was never seen, it cannot be told whether it begins inside of another one.
        digest = hashlib.sha256(label.salt + path if seen else b"unseen" + label.parent)
        for end in range(TOKEN_BYTES, len(label.tokens) + 1, TOKEN_BYTES):
            digest.update(label.tokens[end - TOKEN_BYTES : end])
            key = digest.digest()
            places.add(key)
            if seen and key in wanted:
                paths[key] = path + label.tokens[:end]
    return len(places)


def _wrote(process: psutil.Process) -> int | None:
    """Bytes that the kernel took from a process for a disk; None of one that is gone, or where it does not count."""
    with contextlib.suppress(psutil.Error, AttributeError):
        return int(process.io_counters().write_bytes)
    return None


def _header(path: str) -> Header:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_header(file)
    finally:
        os.close(file)
