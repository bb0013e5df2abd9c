"""What rules a path out by its place: the workspace's configuration, our own ignore files, git's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from sessiond.daemon.workspace.config import CONFIG_FILE
from sessiond.daemon.workspace.ignore import IgnoreFile, first_verdict
from sessiond.daemon.workspace.segment import LeftOut, shown


class Narrowing:
    """What the configuration makes of a workspace: less, never more."""

    def __init__(
        self, include: Sequence[str] = (), exclude: Sequence[str] = (), named: Collection[str] = ()
    ) -> None:
        """`named` are paths that need not match `include`: what is pinned was asked for by name."""
        self.include = _patterns("include", include) if include else None
        self.exclude = _patterns("exclude", exclude)
        self.named = frozenset(path.encode(errors="replace") for path in named)

    def __len__(self) -> int:
        return len(self.exclude.rules) + (len(self.include.rules) if self.include else 0)


def _patterns(key: str, patterns: Iterable[str]) -> IgnoreFile:
    # Here a line is never a comment.
    lines = (f"\\{pattern}" if pattern.startswith("#") else pattern for pattern in patterns)
    return IgnoreFile(f"{CONFIG_FILE} {key}".encode(), "\n".join(lines).encode(), base=b"")


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in one folder."""

    narrowing: Narrowing
    own: tuple[IgnoreFile, ...] = ()
    """Strongest first, as with `git`."""
    git: tuple[IgnoreFile, ...] = ()
    included: bool = True
    """Whether what is in this folder goes in where no pattern of `include` speaks of it."""

    def __len__(self) -> int:
        return len(self.narrowing) + sum(len(file.rules) for file in (*self.own, *self.git))

    def inside(self, folder: bytes, own: tuple[IgnoreFile, ...], git: tuple[IgnoreFile, ...]) -> Rules:
        """What holds in a folder in this one, given its ignore files: they are stronger than those above."""
        included = self._included(folder, is_folder=True) if folder else self.narrowing.include is None
        return replace(self, own=(*own, *self.own), git=(*git, *self.git), included=included)

    def why_out(self, path: bytes, *, is_folder: bool) -> LeftOut | None:
        """Why a path in this folder stays out; None if no rule says so.

        The configuration cannot bring back what the ignore files rule out. Our own are asked before git's: what
        they say stands.
        """
        verdict = self.narrowing.exclude.verdict(path, is_folder=is_folder)
        if verdict is None or not verdict.ignored:
            verdict = first_verdict((*self.own, *self.git), path, is_folder=is_folder)
        if verdict is not None and verdict.ignored:
            return LeftOut(shown(path), "ignored", verdict.rule)
        # A folder is entered all the same: what is in it may match.
        if is_folder or path in self.narrowing.named or self._included(path, is_folder=False):
            return None
        return LeftOut(shown(path), "ignored", f"{CONFIG_FILE} include: no pattern matches")

    def _included(self, path: bytes, *, is_folder: bool) -> bool:
        if self.narrowing.include is None:
            return True
        verdict = self.narrowing.include.verdict(path, is_folder=is_folder)
        return self.included if verdict is None else verdict.ignored
