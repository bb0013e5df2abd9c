"""What goes wrong with a snapshot, in the words of the contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from sessiond.daemon.engine.disk.format import Damaged
from sessiond.daemon.private import NotPrivate
from sessiond.daemon.sessions.failures import unavailable
from sessiond.v1.errors import InvalidInput, SessionUnavailable, invalid


@contextlib.contextmanager
def in_words(doing: str, check: Callable[[], None]) -> Generator[None, None, None]:
    """Raises InvalidInput that names the path for whatever the file is to blame for, and SessionUnavailable where the engine
    died or failed, but first what ended the session: that has its job fail too. `check` raises it.
    """
    try:
        with unavailable(f"a snapshot was {doing}"):
            yield
    except SessionUnavailable:
        check()
        raise
    except Damaged as damaged:
        raise refused(f"it cannot be restored: {damaged}") from damaged
    except (OSError, NotPrivate) as error:
        raise refused(getattr(error, "strerror", None) or str(error)) from error


def refused(why: str) -> InvalidInput:
    """The file cannot be used."""
    return invalid("path", why)
