"""What goes wrong with a snapshot, in the words of the contract."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from sessiond.daemon.engine.disk.format import Damaged
from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.daemon.private import NotPrivate
from sessiond.v1.errors import InvalidInput, SessionUnavailable, invalid


@contextlib.contextmanager
def in_words(doing: str) -> Generator[None, None, None]:
    """Raises InvalidInput that names the path for whatever the file is to blame for, and SessionUnavailable where the engine
    died or failed.
    """
    try:
        yield
    except Damaged as damaged:
        raise refused(f"it cannot be restored: {damaged}") from damaged
    except (OSError, NotPrivate) as error:
        raise refused(getattr(error, "strerror", None) or str(error)) from error
    except EngineDied as died:
        raise SessionUnavailable(f"the backend died while a snapshot was {doing}: {died.cause}") from died
    except EngineFailed as failed:
        raise SessionUnavailable(f"the backend failed while a snapshot was {doing}: {failed}") from failed


def refused(why: str) -> InvalidInput:
    """The file cannot be used."""
    return invalid("path", why)
