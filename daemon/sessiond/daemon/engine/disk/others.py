"""The folders of other engines beside ours, with which we share the budget.

What an engine has that runs is its own to evict: only how much it is matters here. What an engine left that does not run
is nobody's, and goes as ours does. An engine that runs holds the lock of its folder, which tells the two apart, and whoever
removes something holds it too. A folder with nothing left in it goes after a while.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.engine.disk.folder import MAX_FILES, Folder, Unusable, entries_size, is_locked, start_of
from sessiond.daemon.engine.disk.index import FILES, Index, last_used
from sessiond.daemon.engine.disk.sayings import Sayings

LOOK_S = 60.0
"""How often it is measured what the others take."""
EMPTY_S = 86_400.0
"""How long a folder stays that has no entries: its engine may be about to write some."""
CLOSED_S = 3600.0
"""How long a folder that can be measured and not opened is passed over."""
MAX_OTHERS = 1024
"""Folders that are looked at."""
MAX_HELD = 32
"""Folders that are held at once to evict from them: each takes five open files. Those that were written to last wait."""
_NAME = re.compile(r"[0-9a-f]{32}")
"""Of the folders that share a budget: no other one beside ours is touched."""


@dataclass(frozen=True, slots=True)
class Left:
    """An entry of an engine that does not run."""

    folder: Folder
    name: str
    size: int
    used: int
    """As `Entry.used`."""

    @property
    def start(self) -> int:
        """Position of its first token."""
        return start_of(self.name)


class Others:
    """Beside the folder `own`; nobody, unless that has a name as engines' folders have. In the writer's thread."""

    def __init__(self, own: Path, sayings: Sayings) -> None:
        self._own = own.absolute()
        self._sayings = sayings
        self._shared = _NAME.fullmatch(self._own.name) is not None
        self._looked = -math.inf
        self.running = 0
        """Engines that run and have a folder beside ours."""
        self.running_bytes = 0
        """Of their files."""
        self.left_bytes = 0
        """Of the files of engines that do not run."""
        self._left: list[tuple[float, Path, int]] = []
        """Where these are, when something was last written there, and their bytes."""
        self._closed: dict[Path, float] = {}
        """Folders that could not be opened, and when: what cannot be evicted must not have all else evicted for it."""

    def look(self) -> None:
        """Measure what there is, if that was not done for a while."""
        if self._shared and time.monotonic() - self._looked >= LOOK_S:
            self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self.running = self.running_bytes = self.left_bytes = 0
        self._left = []
        for path in self._paths():
            with contextlib.suppress(Unusable, OSError):
                size = entries_size(path)
                if is_locked(path):
                    self.running += 1
                    self.running_bytes += size
                elif size and time.monotonic() - self._closed.get(path, -math.inf) < CLOSED_S:
                    continue
                elif size:
                    self.left_bytes += size
                    self._left.append(((path / "entries").stat().st_mtime, path, size))
                else:
                    with contextlib.closing(Folder(path, 0.0)) as folder:
                        folder.remove_if_empty(EMPTY_S, FILES)

    @contextlib.contextmanager
    def left(self) -> Generator[list[Left], None, None]:
        """The entries of engines that do not run. Until it is over, none of these can begin to."""
        if self._shared:
            self._look()
        with contextlib.ExitStack() as stack:
            found: list[Left] = []
            for _, path, size in sorted(self._left)[:MAX_HELD]:
                try:
                    folder = stack.enter_context(contextlib.closing(Folder(path, 0.0)))
                    found += self._entries(folder, MAX_FILES - len(found))
                except (Unusable, OSError):
                    self._closed[path] = time.monotonic()
                    self.left_bytes -= size
            yield found

    def remove(self, left: Left) -> bool:
        """Remove one of what is left. No if that is not possible."""
        with contextlib.suppress(OSError):
            left.folder.remove(left.name)
            self.left_bytes -= left.size
            return True
        return False

    def _paths(self) -> Iterator[Path]:
        """The folders beside ours that may be an engine's. One without a lock is none, or is just being made."""
        with contextlib.suppress(OSError), os.scandir(self._own.parent) as listing:
            for item in itertools.islice(listing, MAX_OTHERS):
                other = _NAME.fullmatch(item.name) and item.name != self._own.name
                if other and item.is_dir(follow_symlinks=False) and os.path.lexists(f"{item.path}/lock"):
                    yield Path(item.path)

    def _entries(self, folder: Folder, most: int) -> list[Left]:
        """Raises OSError."""
        index = Index(folder, self._sayings)
        rows = index.entries()
        index.close()
        files, _foreign = folder.files()
        return [
            Left(folder, name, filed.size, last_used(filed, rows.get(name)))
            for name, filed in itertools.islice(files.items(), most)
        ]
