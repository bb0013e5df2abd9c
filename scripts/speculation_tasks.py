"""What answers are asked for when guessing ahead is measured: files that are said again, changed or not, and other text.

A model this small cannot do such a task, so it is made to say the text: as the only choice that it has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replay_git import Files, History

SHORTEST, LONGEST = 700, 1800
"""Characters of a text that is said."""
_ALIKE = (0.6, 0.99)
"""How much of a file an edit leaves."""
_COMMITS = 200


@dataclass(frozen=True, slots=True)
class Task:
    """A text that stands before, and the one that is said then."""

    kind: str
    """"copy", "edit" or "other"."""
    name: str
    prefix: str
    question: str
    answer: str


def tasks(repo: Path, each: int) -> list[Task]:
    """So many of each kind, of a repository's history. Raises NoHistory."""
    history = History(repo)
    try:
        commits = history.first_parents(_COMMITS)
        edits = _edits(history.files(commit) for commit in commits)
        edited = [task for task, _ in zip(edits, range(each), strict=False)]
        return [*_copies(history.files(commits[0]), each), *edited, *_others(history.files(commits[0]), each)]
    finally:
        history.close()


def _edits(newest_first: Iterator[Files]) -> Iterator[Task]:
    """A file as it was, and as it became."""
    after: Files = {}
    for before in newest_first:
        for path, content in after.items():
            old, new = _text(before.get(path, b"")), _text(content)
            if old != new and _fits(old) and _fits(new) and _is_edit(old, new):
                yield Task("edit", path, _stands(path, old), f"Rewrite {path} with the change.\n", new)
                break  # one of each commit
        after = before


def _copies(files: Files, count: int) -> list[Task]:
    fitting = [(path, _text(content)) for path, content in files.items() if _fits(_text(content))]
    step = max(1, len(fitting) // count)
    return [
        Task("copy", path, _stands(path, text), f"Say {path} again.\n", text)
        for path, text in fitting[::step][:count]
    ]


def _others(files: Files, count: int) -> list[Task]:
    """Prose that stands nowhere before, behind a file that has nothing to do with it."""
    prose = [(path, _text(content)) for path, content in files.items() if path.endswith(".md")]
    code = [(path, _text(content)) for path, content in files.items() if path.endswith(".py")]
    behind = [each for each in code if _fits(each[1])]
    return [
        Task(
            "other", path, _stands(*behind[index % len(behind)]), f"Tell of {path}.\n", text[SHORTEST:LONGEST]
        )
        for index, (path, text) in enumerate([each for each in prose if len(each[1]) > LONGEST][:count])
    ]


def _stands(path: str, text: str) -> str:
    return f"{path}\n{text}\n"


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _fits(text: str) -> bool:
    return SHORTEST <= len(text) <= LONGEST


def _is_edit(old: str, new: str) -> bool:
    least, most = _ALIKE
    return least <= difflib.SequenceMatcher(None, old, new, autojunk=False).ratio() <= most
