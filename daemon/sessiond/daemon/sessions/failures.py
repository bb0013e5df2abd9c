"""What an engine could not do, in the contract's words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from sessiond.daemon.engine.process import EngineDied, EngineFailed
from sessiond.v1.errors import (
    ContextOverflow,
    SessionClosed,
    SessiondError,
    SessionUnavailable,
    UnsupportedFeature,
    invalid,
)


def in_words(
    failed: EngineFailed, session: str, backend: str, overflow: Callable[[], ContextOverflow]
) -> SessiondError:
    """A failure in a turn of this session as an error of the contract; `overflow` is asked for where there was no room."""
    match failed.kind:
        case "no_room":
            return overflow()
        case "unsupported":
            return UnsupportedFeature(failed.field, backend)
        case "setting":
            return invalid(f"config.{failed.field}", str(failed))
        case "cancelled":
            return SessionClosed(session)
        case _:
            return SessionUnavailable(f"the backend failed: {failed}")


@contextlib.contextmanager
def unavailable(meanwhile: str) -> Generator[None, None, None]:
    """Raises SessionUnavailable where the engine died or failed; `meanwhile` says of what was done what a client knows."""
    try:
        yield
    except EngineDied as died:
        raise SessionUnavailable(f"the backend died while {meanwhile}: {died.cause}") from died
    except EngineFailed as failed:
        raise SessionUnavailable(f"the backend failed while {meanwhile}: {failed}") from failed
