"""A scratch copy of a folder for the demo, so that its edit touches nobody's files.

Only regular files go in: what git lists where it lists anything, else what a bounded walk finds. No link is followed.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

MOST_FILES = 5_000
MOST_FILE_BYTES = 256 * 1024
"""The daemon's assembly takes no larger file either."""
MOST_BYTES = 32 << 20
MOST_SEEN = 50_000

_NEVER = {".git", ".hg", ".svn", ".venv", "node_modules", "__pycache__"}


def scratch_copy(source: Path, target: Path) -> int:
    """Copy the files of `source` into the new folder `target`; how many there were. What cannot be read is passed over.

    Raises OSError if `target` cannot be written.
    """
    target.mkdir(parents=True)
    plain_folders = {Path()}
    files = size = 0
    for path in _listed_by_git(source) or sorted(_walked(source)):
        content = _content(source, path, plain_folders)
        if content is None:
            continue
        if files == MOST_FILES or size + len(content) > MOST_BYTES:
            break
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        files, size = files + 1, size + len(content)
    return files


def _listed_by_git(source: Path) -> list[Path]:
    """The files of a work tree that are not ignored; none where there is no work tree, or no git."""
    # A folder from anywhere may name a program of its own as its file system monitor.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(source)]
    command += ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    names = {name for name in done.stdout.split(b"\0") if name} if done.returncode == 0 else set[bytes]()
    return [Path(os.fsdecode(name)) for name in sorted(names)[:MOST_SEEN]]


def _walked(source: Path) -> Iterator[Path]:
    seen = 0
    for folder, folders, names in os.walk(source, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in _NEVER)
        for name in sorted(names):
            yield Path(folder, name).relative_to(source)
            seen += 1
            if seen == MOST_SEEN:
                return


def _content(source: Path, path: Path, plain_folders: set[Path]) -> bytes | None:
    """What stands in a regular file of a bearable size, reached over no link; None for anything else."""
    try:
        for folder in reversed(path.parents):
            if folder not in plain_folders:
                if not stat.S_ISDIR((source / folder).lstat().st_mode):
                    return None
                plain_folders.add(folder)
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
        file = os.open(source / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as opened:
            told = os.fstat(file)
            if not stat.S_ISREG(told.st_mode) or told.st_size > MOST_FILE_BYTES:
                return None
            return opened.read(MOST_FILE_BYTES)
    except OSError:
        return None
