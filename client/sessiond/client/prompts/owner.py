"""Whose the sessions are on which prompts are answered: a client that dies closes none, so the next one closes them.

Each session's key names its owner, and each owner holds an exclusive `flock` on a file of that name for as long as it has
sessions. The system frees the lock however a process ends, also with the machine. So an owner whose file is here and free is
gone; one whose file is not here is another user's or another machine's, and left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from sessiond.client.private import make_folder
from sessiond.v1 import session_service_pb2

_KEY = re.compile(r"prompts ([0-9a-f]{16}) [0-9a-f]{16}")


class Owner:
    """See the module. Its lock is free once it has left, and also once nobody knows this object any more."""

    def __init__(self) -> None:
        self.left_some = False
        """Whether a session may be left that it could not close: its file stays then, for whoever comes next."""
        self._name = ""
        self._file: BinaryIO | None = None

    def key(self) -> str:
        """A key for one more session."""
        if not self._name:
            self._name = secrets.token_hex(8)
            with contextlib.suppress(
                OSError
            ):  # where it may write nothing it works too, as nobody in particular
                self._file = _locked(_path(self._name))
        return f"prompts {self._name} {secrets.token_hex(8)}"

    def leave(self) -> None:
        """It has no sessions any more. Twice is once."""
        if self._name and not self.left_some:
            forget(self._name)
        file, self._file = self._file, None
        self._name, self.left_some = "", False
        if file is not None:
            file.close()


def left_behind(known: Iterable[session_service_pb2.Session]) -> dict[str, list[str]]:
    """Of a daemon's sessions the names of those that no owner has any more, by their owner."""
    found: dict[str, list[str]] = {}
    for session in known:
        key = _KEY.fullmatch(session.key)
        if key is not None and session.state != session_service_pb2.SESSION_STATE_CLOSED:
            found.setdefault(key[1], []).append(session.name)
    return {owner: names for owner, names in found.items() if _is_gone(owner)}


def forget(owner: str) -> None:
    """Nothing of this owner's is left."""
    with contextlib.suppress(OSError):
        _path(owner).unlink()


def _path(owner: str) -> Path:
    import platformdirs  # only where prompts are run

    return platformdirs.user_state_path("sessiond") / "prompts" / owner


def _locked(path: Path) -> BinaryIO:
    make_folder(path.parent)
    made = path.open("xb")
    fcntl.flock(made, fcntl.LOCK_EX)
    return made


def _is_gone(owner: str) -> bool:
    try:
        with _path(owner).open("rb") as file:
            # Shared, so that two that look at once do not take each other for the owner.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False  # it is held, or none of this user's on this machine
    return True
