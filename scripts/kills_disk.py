"""What stood on the disk when a daemon was killed: the KV of which tokens, and the names of which sessions.

Read from the files themselves, and not from what the daemon said of them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.daemon.engine.disk.format import Damaged, Label, read_header
from sessiond.daemon.engine.disk.keys import LEAST, Chain, Space, unpack

Labels = dict[str, Label]
"""By the name of the entry's file, which a hash of its tokens makes: it never means another entry."""


class Written:
    """The entries of one moment."""

    def __init__(self, labels: Iterable[Label] = (), unfinished: int = 0) -> None:
        self.unfinished = unfinished
        """Files that were on their way."""
        self._by_salt: dict[bytes, list[Label]] = defaultdict(list)
        for label in labels:
            self._by_salt[label.salt].append(label)

    @classmethod
    def of(cls, state: Path, known: Labels) -> Written:
        """Those in a daemon's state folder. `known` is added to: no file is read twice."""
        found: list[Label] = []
        for path in state.glob("kv/*/entries/*"):
            label = known.get(path.name) or _label(path)
            if label is not None:
                found.append(known.setdefault(path.name, label))
        return cls(found, sum(1 for _ in state.glob("kv/*/new/*")))

    def holds(self, tokens: Sequence[int]) -> list[bool]:
        """Which of these tokens have their KV there, after exactly the tokens before them, in the space that has most of them:
        spaces have different texts here.
        """
        each = [self._in_space(salt, labels, tokens) for salt, labels in self._by_salt.items()]
        return max(each, key=sum, default=[False] * len(tokens))

    def _in_space(self, salt: bytes, labels: list[Label], tokens: Sequence[int]) -> list[bool]:
        chain = Chain(Space(b"", salt), tokens)
        found = [False] * len(tokens)
        for label in sorted(labels, key=lambda label: label.start):
            if label.start >= len(tokens) or chain.key(label.start) != label.parent:
                continue
            matched = _common(unpack(label.tokens), tokens[label.start :])
            # Less of an entry is not worth reading it, and the tier does not.
            if matched >= min(LEAST, label.count):
                found[label.start : label.start + matched] = [True] * matched
        return found


@dataclass(slots=True)
class Comeback:
    """How much of what was written came back without a prefill, over the first prefixes that were asked for after a kill."""

    written: Written
    expected: int = 0
    """Tokens that were on the disk, each counted where it was first asked for."""
    lost: int = 0
    """Of these, those that were computed, at least."""
    unwritten: int = 0
    """Tokens that were not on the disk."""
    unseen: int = 0
    """Tokens that were there already, and nobody saw how they came: a turn that was run again had been told of before."""
    told: list[str] = field(default_factory=list[str])
    """Which prefixes were computed though they were there."""
    _stand: dict[str, list[Sequence[int]]] = field(default_factory=lambda: defaultdict(list))
    """What was asked for, by workspace."""

    def asked(self, root: str, tokens: Sequence[int], reused: int, prefilled: int) -> None:
        """A prefix of a workspace was brought to these tokens, after all that were told before it."""
        already = max((_common(tokens, other) for other in self._stand[root]), default=0)
        self._stand[root].append(tokens)
        at = max(already, reused)
        holds = self.written.holds(tokens)
        there = sum(holds[at:])
        absent = len(tokens) - at - there
        self.unseen += at - already
        self.expected += there
        self.unwritten += absent
        lost = max(0, min(there, prefilled - absent))
        self.lost += lost
        if lost:
            self.told.append(
                f"{len(tokens)} tokens, on disk {_spans(holds)}, {reused} reused ({already} told of before), {prefilled} prefilled"
            )


def remembered(state: Path) -> set[str]:
    """The names that a daemon would answer to if it began now."""
    ledger = state / "sessions.db"
    if not ledger.exists():
        return set()
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database,
    ):
        return {f"sessions/{row[0]}" for row in database.execute("SELECT id FROM sessions")}
    return set()


def _spans(holds: Sequence[bool]) -> list[tuple[int, int]]:
    """From where to where it is true."""
    edges = [
        at for at in range(len(holds) + 1) if (at > 0 and holds[at - 1]) != (at < len(holds) and holds[at])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _label(path: Path) -> Label | None:
    """What a file says of itself; None if it went, or is not whole: then it was not written."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return read_header(file).label
    except (Damaged, OSError):
        return None
    finally:
        os.close(file)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens, from the first, are the same."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
