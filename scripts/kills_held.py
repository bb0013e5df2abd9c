"""What clients hold: sessions by name, what their prefixes were brought to, and every text that ever was in one."""

from __future__ import annotations

import hashlib
import itertools
import string
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sessiond.daemon.workspace.filling import framed

LEDGER_S = 5.0
"""Within which a change has to be in the daemon's ledger, which gathers them for half a second, on any machine."""
FILES = 5
FILE_LINES = 9
TEXT_LINES = 24
LINE = "value_{0} = compute({1}, {0})\n"


def digest(text: str) -> str:
    """As a manifest says it."""
    return hashlib.sha256(text.encode()).hexdigest()


class Library:
    """Texts by their hash. Any thread may add one; who adds it before it can be read finds every hash that is told."""

    def __init__(self) -> None:
        self._texts = {digest(""): ""}

    def add(self, text: str) -> str:
        """Take a text in; its hash."""
        found = digest(text)
        self._texts[found] = text
        return found

    def find(self, hashes: Iterable[str]) -> list[str] | None:
        """The texts of these hashes; None if there never was one of them."""
        found = [self._texts.get(each) for each in hashes]
        return [text for text in found if text is not None] if None not in found else None


class Folder:
    """The workspace. One thread edits it, and any may ask what it holds."""

    def __init__(self, root: Path, library: Library, rng: Random) -> None:
        self.root = root
        self._library, self._rng = library, rng
        root.mkdir()
        self._lines = {f"part_{index}.txt": _lines(rng, FILE_LINES) for index in range(FILES)}
        for path in self._lines:
            self._save(path)

    def edit(self) -> None:
        """Save a file with one line changed, as an editor does."""
        path = self._rng.choice(list(self._lines))
        _change(self._lines[path], self._rng)
        self._save(path)

    def served(self) -> dict[str, str]:
        """The hash of each segment that a prefix of it has, by path."""
        return {path: digest(framed(path, (self.root / path).read_text())) for path in self._lines}

    def _save(self, path: str) -> None:
        text = "".join(self._lines[path])
        self._library.add(framed(path, text))
        new = self.root / ".saving~"
        new.write_text(text)
        new.replace(self.root / path)


@dataclass(slots=True)
class Told:
    """A prefix that a session was asked to have."""

    text: str
    acked: float | None = None
    """When it was said to have it, by `time.monotonic`."""


@dataclass(slots=True)
class Held:
    """A session that somebody was told the name of."""

    name: str
    workspace: bool
    """Whether its prefix is the workspace's, and not a text."""
    lines: list[str] = field(default_factory=list[str])
    told: list[Told] = field(default_factory=list[Told])
    since: float = field(default_factory=time.monotonic)
    may_be_gone: bool = False
    """It was so young when the daemon was killed that its name was on no disk."""

    @classmethod
    def new(cls, name: str, rng: Random, mark: str, *, workspace: bool) -> Held:
        """A session that was just opened, and a text for it that no other one has; it begins with the mark."""
        return cls(name, workspace, [f"{mark} {name}\n", *_lines(rng, TEXT_LINES)])

    def forked(self, name: str) -> Held:
        """Its child, which is what this one is."""
        return Held(
            name, self.workspace, list(self.lines), [Told(each.text, each.acked) for each in self.told]
        )

    def edit(self, rng: Random) -> None:
        """Change a line of its text."""
        _change(self.lines, rng)

    def ask(self, library: Library) -> Told:
        """Note that its text is about to be asked for."""
        text = "".join(self.lines)
        library.add(text)
        self.told.append(Told(text))
        return self.told[-1]

    def may_be(self, at: float) -> set[str]:
        """Which text its prefix may be after a kill at that moment: the last that the ledger must have, or a later one."""
        found = set[str]()
        for each in reversed(self.told):
            found.add(each.text)
            if each.acked is not None and each.acked < at - LEDGER_S:
                return found
        return found | {""}


class Shelf:
    """All sessions that are held, by whom. `alike` has all texts begin with the same tokens."""

    def __init__(self, *, alike: bool = True) -> None:
        self._marks = itertools.cycle("#" if alike else string.ascii_letters)
        self.lock = threading.Lock()
        self.hands: list[list[Held]] = []

    def mark(self) -> str:
        """What another text begins with: no two that are held have the same, unless all have."""
        with self.lock:
            return next(self._marks)

    def all(self) -> list[Held]:
        """Every one of them."""
        with self.lock:
            return [held for hand in self.hands for held in hand]

    def drop(self, held: Held) -> None:
        """Hold it no more."""
        with self.lock:
            for hand in self.hands:
                if held in hand:
                    hand.remove(held)


def _lines(rng: Random, count: int) -> list[str]:
    return [LINE.format(index, rng.randrange(10_000)) for index in range(count)]


def _change(lines: list[str], rng: Random) -> None:
    """One line, seldom the first of all."""
    index = rng.randrange(1, len(lines))
    lines[index] = LINE.format(index, rng.randrange(10_000))
