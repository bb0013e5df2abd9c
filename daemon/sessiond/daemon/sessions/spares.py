"""Branches beside a session's own, on which something is built or written that ends with the session."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Generator

from sessiond.daemon.engine.engine import Moved
from sessiond.daemon.sessions.branch import Branch
from sessiond.daemon.sessions.home import Home


class Spares:
    """Of the session `session_id`. `check` raises what ended it, if something did."""

    def __init__(self, session_id: str, moved: Moved, check: Callable[[], None]) -> None:
        self._id = session_id
        self._moved = moved
        self._check = check
        self._branches: set[Branch] = set()

    def new(self, home: Home) -> Branch:
        """One that may become the session's own by `Session.take_over`; else it is to be closed."""
        return Branch(home, self._name(), self._moved, self._check)

    def passing(self, home: Home, keeps: int) -> Branch:
        """One that never becomes the session's own, and of whose tokens only the first `keeps` outlive it. To be closed."""
        return Branch(home, self._name(), check=self._check, keeps=keeps)

    def _name(self) -> str:
        return f"{self._id}-{secrets.token_hex(4)}"

    @contextlib.contextmanager
    def known(self, branch: Branch) -> Generator[None, None, None]:
        """Have it known as long as a job may run on it."""
        self._branches.add(branch)
        try:
            yield
        finally:
            self._branches.discard(branch)

    def interrupt(self) -> None:
        """End the jobs that run on any of them."""
        for branch in self._branches:
            branch.interrupt()
