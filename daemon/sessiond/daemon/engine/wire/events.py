"""What an engine says: how a command goes on, how it ended, and what nobody asked."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sessiond.daemon.engine.wire.answers import Advanced, Answer


class Event(msgspec.Struct, frozen=True, tag=True):
    """From the engine. `id` is that of the command it answers."""

    id: int


class Done(Event, frozen=True, tag=True):
    """The command is done. Nothing more comes for its id."""

    answer: Answer


class Failed(Event, frozen=True, tag=True):
    """The command failed. Nothing more comes for its id.

    `kind`: "cancelled", "no_room", "no_memory", "unsupported", "setting", "load" or "backend"; `field` is the setting or
    feature; `held` is what the branch has in cells now, where a branch was meant.
    """

    kind: str
    message: str
    field: str = ""
    held: bytes = b""


class Progress(Event, frozen=True, tag=True):
    """How far: tokens for a prefill, thousandths for a load."""

    done: int
    total: int


class Reached(Event, frozen=True, tag=True):
    """A part of the way to an answer is done."""

    took: Advanced


class Score(msgspec.Struct, frozen=True):
    """How likely a token was."""

    token: int
    piece: bytes
    logprob: float
    """Natural logarithm of its probability."""


class Scores(msgspec.Struct, frozen=True):
    """A token of an answer, and the likeliest ones at its place."""

    taken: Score
    top: list[Score]


class Piece(Event, frozen=True, tag=True):
    """More of an answer."""

    text: str
    tokens: list[int]
    scores: list[Scores] = msgspec.field(default_factory=list[Scores])
    """One for each of the tokens, if they were asked for."""


class Residence(Event, frozen=True, tag=True):
    """Where the tokens of a branch are now, which nobody works on: what others need made them move. `id` is 0."""

    branch: str
    resident: int
    in_memory: int


class ArenaState(Event, frozen=True, tag=True):
    """An arena took cells, or gave them back. `id` is 0."""

    arena: str
    cells: int
    """0 once it has given them back."""
    kv_bytes: int
    gone: bool = False
    """Its last branch was closed."""


AnyEvent: TypeAlias = Done | Failed | Progress | Reached | Piece | Residence | ArenaState

UNASKED = 0
"""The `id` of an event that answers no command."""
