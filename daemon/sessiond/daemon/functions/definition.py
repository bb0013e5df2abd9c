"""What a function is, as a client defined it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace

from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.session import MAX_SEED, DecodeRequest

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""Of a function. It is the name of a file too."""
MAX_BODY = 1 << 20
"""Bytes of UTF-8."""
MAX_EXAMPLES = 256
MAX_SAID = 4 << 20
"""Bytes of a whole definition."""
MAX_FUNCTIONS = 256
"""That may be defined at once. Each has a branch of its own, and a file."""
MAX_ALL_SAID = 32 << 20
"""Bytes of all definitions together: a list of them is one message."""
MAX_ARGUMENTS = 1 << 14
"""Of one map."""
MAX_ALL_ARGUMENTS = 16 << 20
"""Bytes of UTF-8 of all arguments of one map together: their tokens are held until the last one is answered."""


@dataclass(frozen=True, slots=True)
class Example:
    """An argument, and the value that it should have."""

    argument: str
    value: str


@dataclass(frozen=True, slots=True)
class Definition:
    """Equal ones are one function."""

    name: str
    body: str
    examples: tuple[Example, ...]
    opened: OpenRequest
    """The model and the settings that it runs with, as of a session without a workspace."""
    said: bytes
    """All of it in the client's words, how tokens are chosen included. Whoever gave it can read it."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the values of a function are made."""

    request: DecodeRequest
    seeded: bool
    """Whether the seed is the definition's. Else each call has one of its own."""

    def drawn(self) -> DecodeRequest:
        """For one call."""
        if self.seeded:
            return self.request
        return replace(
            self.request, sampling=replace(self.request.sampling, seed=secrets.randbelow(MAX_SEED))
        )
