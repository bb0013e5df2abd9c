"""What one event cost one side, as it is noted and kept."""

from __future__ import annotations

from typing import Annotated

import msgspec

Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class Took(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Times are the client's: from the request's first byte. Counts are those that the side tells of itself, for prefix
    and suffix together; None where it does not tell.
    """

    first_token_ms: Milliseconds
    """To the first token; where several ask at once, until all of them have one."""
    token_ms: Milliseconds = 0.0
    """Each token after the first; of all streams together, where there are several. 0 if there was none."""
    prefilled_tokens: Tokens | None = None
    reused_tokens: Tokens | None = None
    restored_tokens: Tokens | None = None
    ready_ms: Milliseconds | None = None
    """From a save until the background was done with it; None where nobody waited for that, or not long enough."""
    opened_ms: Milliseconds | None = None
    """Opening the session before a single turn, which is no part of it; None where it was open, or there are none."""


class NotMeasured(Exception):
    """A side cannot do this, or could not this time. The message says why, for the row that stays empty."""
