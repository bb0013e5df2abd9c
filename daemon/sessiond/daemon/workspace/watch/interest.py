"""Which folders are watched, and a change of which paths is told.

What can never be part of a prompt wakes nobody: the rules of `skip.py` hold here as they hold for the walk. Files with
rules always count, since they decide about all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sessiond.daemon.workspace.config import CONFIG_FILE
from sessiond.daemon.workspace.select import MAX_DEPTH
from sessiond.daemon.workspace.skip import VCS_FOLDER, skipped_folder

_RULE_NAMES: Final = frozenset({".gitignore", ".sessiondignore", CONFIG_FILE})
_GIT_EXCLUDE: Final = ".git/info/exclude"
_VCS_FILE: Final = VCS_FOLDER.decode()

# All that counts in git's own folder is the one ignore file that lives there.
_NARROW: Final = {b".git": frozenset({b"info"}), b".git/info": frozenset({b"exclude"})}

VENV_MARKS: Final = frozenset({b"pyvenv.cfg", b"__init__.py"})
"""The names in a folder that decide whether it is a virtual environment."""


def is_rule_file(path: str) -> bool:
    """Whether the file at `path` decides about others."""
    return path.rpartition("/")[2] in _RULE_NAMES or path == _GIT_EXCLUDE


def decides_about_folder(path: bytes, name: bytes) -> bool:
    """Whether a file `name` that comes or goes in the folder at `path` may make it a virtual environment or none."""
    return path != b"" and (
        name == b"pyvenv.cfg" or (name == b"__init__.py" and path.rpartition(b"/")[2] == b"venv")
    )


def as_text(path: bytes) -> str | None:
    """None if it is no UTF-8."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return None


class Interest:
    """What one watcher wants to know. `counts` and `enters` are asked often, and from another thread."""

    def __init__(self, counts: Callable[[str], bool], enters: Callable[[str], bool]) -> None:
        self._counts = counts
        self._enters = enters

    def enters(self, path: bytes) -> bool:
        """Whether the folder at `path` is watched, if the one around it is."""
        if path == b"" or path in _NARROW:
            return True
        if path.startswith(VCS_FOLDER + b"/") or path.count(b"/") >= MAX_DEPTH:
            return False
        if path.rpartition(b"/")[2].lower() == VCS_FOLDER:
            return False
        text = as_text(path)
        return text is not None and skipped_folder(text) is None and self._enters(text)

    def only(self, path: bytes) -> frozenset[bytes] | None:
        """The names that count in the folder at `path`; None for all."""
        return _NARROW.get(path)

    def stands_for(self, folder: bytes) -> str:
        """What to tell when a folder that was entered is gone."""
        return _GIT_EXCLUDE if folder in _NARROW else folder.decode("utf-8")

    def counts(self, path: str) -> bool:
        """Whether a change of the file at `path`, in a folder that is watched, is told."""
        # In a worktree `.git` is a file.
        if path.rpartition("/")[2].lower() == _VCS_FILE:
            return False
        return is_rule_file(path) or self._counts(path)
