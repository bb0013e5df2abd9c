"""What is done in a replayed day, and when somebody asks: every event, in order, from versions of files. Pure.

The same versions and the same seed give the same day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from replay_hunks import changes, formatted, stages

Kind: TypeAlias = Literal["cold", "plain", "save", "undo", "switch", "back", "burst"]
"""What a question came after: nothing before it, no change, a hunk saved, files as they were before, another branch,
the way back from there, a formatter over several files."""

Writes: TypeAlias = Mapping[str, bytes | None]
"""Contents by path; None is to be deleted. In the order in which they are written."""

MOST_SAVES = 1_000
"""Of one commit. What follows them is saved at once, as a burst."""


@dataclass(frozen=True, slots=True)
class Step:
    """Files that change at one moment."""

    kind: Kind
    writes: Writes
    commit: int
    """On the way to which one, counted from 1."""
    asked: bool = True
    """Whether somebody asks after it: nobody does after every save."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How somebody works. Chances are between 0 and 1."""

    asks: int = 6
    """Saves of each commit, at most, after which there is a question."""
    undo: float = 0.15
    """The chance that what was just asked about is taken back, and then done after all."""
    burst: float = 0.25
    """The chance that a formatter runs when a commit is ready. What it did is taken back."""
    burst_files: int = 8
    """How many of the commit's files it changes at most."""
    switch: float = 0.25
    """The chance of a look at another branch after a commit."""


def day(
    versions: Iterable[dict[str, bytes]], other: dict[str, bytes], habits: Habits, seed: int
) -> Iterator[Step]:
    """All steps that lead from the first version to the last. `other` is the version on another branch."""
    rng = Random(seed)
    before: dict[str, bytes] | None = None
    for commit, after in enumerate(versions):
        if before is not None:
            touched = changes(before, after)
            yield from _saves(before, touched, commit, habits, rng)
            if rng.random() < habits.burst:
                yield from _burst(after, list(touched), commit, habits, rng)
            if rng.random() < habits.switch and (away := changes(after, other)):
                yield Step("switch", away, commit)
                yield Step("back", changes(other, after), commit)
        before = after


def _saves(
    before: Mapping[str, bytes], touched: Writes, commit: int, habits: Habits, rng: Random
) -> Iterator[Step]:
    """A commit's hunks one by one, with questions spread evenly over them, and one after the last."""
    saves = [
        (path, old, new)
        for path, content in touched.items()
        for old, new in _pairs(before.get(path), stages(before.get(path), content))
    ]
    count = min(len(saves), MOST_SAVES)
    asks = min(count, habits.asks)
    for index, (path, old, new) in enumerate(saves[:count]):
        asked = (index + 1) * asks // count > index * asks // count
        yield Step("save", {path: new}, commit, asked)
        if asked and rng.random() < habits.undo:
            yield Step("undo", {path: old}, commit)
            yield Step("undo", {path: new}, commit)
    if rest := {path: touched[path] for path, _, _ in saves[count:]}:
        yield Step("burst", rest, commit)


def _pairs(old: bytes | None, news: list[bytes | None]) -> list[tuple[bytes | None, bytes | None]]:
    """What a file holds before and after each of its saves."""
    return list(zip([old, *news[:-1]], news, strict=True))


def _burst(
    after: dict[str, bytes], touched: list[str], commit: int, habits: Habits, rng: Random
) -> Iterator[Step]:
    texts = {path: formatted(after[path]) for path in touched if path in after}
    able = [path for path, text in texts.items() if text != after[path]]
    chosen = sorted(rng.sample(able, min(len(able), habits.burst_files)))
    if chosen:
        yield Step("burst", {path: texts[path] for path in chosen}, commit)
        yield Step("undo", {path: after[path] for path in chosen}, commit)
