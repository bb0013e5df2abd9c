"""What an engine answers to a command that is done."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sessiond.adapters.base import ContextSettings, ModelFacts


class TokenLists(msgspec.Struct, frozen=True, tag=True):
    """Tokens of each text."""

    lists: list[bytes]


class PieceList(msgspec.Struct, frozen=True, tag=True):
    """Bytes of each token."""

    pieces: list[bytes]


class Embedded(msgspec.Struct, frozen=True, tag=True):
    """Vectors, native float32; none at all where a text has no tokens or more than the window takes."""

    vectors: list[bytes]
    sizes: list[int]
    """Tokens of each text."""
    window: int
    pooling: str


class Opened(msgspec.Struct, frozen=True, tag=True):
    """What the arena runs with."""

    settings: ContextSettings
    cell_bytes: int
    """Of KV for each token."""


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """See `work.Reuse`. Times in milliseconds."""

    reused: int
    restored: int
    prefilled: int
    source: str
    queue_ms: float
    restore_ms: float
    prefill_ms: float


class Generated(msgspec.Struct, frozen=True, tag=True):
    """See `work.Finish`. `tokens` is all that the branch holds now."""

    reason: str
    stop_string: str
    generated: int
    tokens: bytes
    queue_ms: float
    decode_ms: float
    drafted: int = 0
    accepted: int = 0


class RawLogits(msgspec.Struct, frozen=True, tag=True):
    """Native float32."""

    logits: bytes


class Weighed(msgspec.Struct, frozen=True, tag=True):
    """One for each token that was weighed."""

    logprobs: list[float]
    """Natural logarithms of their probabilities."""
    pieces: list[bytes]
    queue_ms: float


class KvPiece(msgspec.Struct, frozen=True, tag=True):
    """KV as the backend gives it."""

    payload: bytes


class KvTaken(msgspec.Struct, frozen=True, tag=True):
    """The branch stands at its tokens, unless the backend refused what it was given."""

    prefilled: int
    """How many of them were computed all the same."""
    refused: str = ""
    """Why; empty if it did not."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model stands."""

    facts: ModelFacts
    defaults: ContextSettings


class Lap(msgspec.Struct, frozen=True):
    """How long one way of running a model took once, in milliseconds."""

    bulk_ms: float
    """A prefill of `Measured.bulk_tokens` tokens."""
    small_ms: float
    """A batch of 16 tokens behind it."""
    single_ms: float
    """One token behind it."""


class Trial(msgspec.Struct, frozen=True):
    """One way of running a model, and its laps, which alternated with those of all others."""

    settings: ContextSettings
    laps: list[Lap]


class Measured(msgspec.Struct, frozen=True, tag=True):
    """Every way; the first is the adapter's own choice. None if there is nothing to choose, or if the machine was too
    busy to tell.
    """

    trials: list[Trial]
    bulk_tokens: int = 0
    busy: bool = False


class Framed(msgspec.Struct, frozen=True, tag=True):
    """One more text than roles; the digest is that of the template."""

    pieces: list[str]
    template_digest: str


class Checked(msgspec.Struct, frozen=True, tag=True):
    """All arenas agree with their backend."""

    residence: dict[str, tuple[int, int]]
    """By branch, how many of its tokens are in cells, and how many follow in memory."""
    memory_tier: int
    """Bytes that are kept in memory."""


class DiskTold(msgspec.Struct, frozen=True):
    """How the disk tier stands, and what it did; see `disk.tier.Facts` and `disk.counts.Counts`."""

    open: int
    """1 if entries can be found, else 0."""
    entries: int
    bytes: int
    limit: int
    waiting_bytes: int
    kv_bytes: int
    file_bytes: int
    written: int
    read: int
    missed: int
    damaged: int
    evicted: int
    dropped: int
    set_aside: int


class Tallied(msgspec.Struct, frozen=True, tag=True):
    """What an engine did since it began, in tokens, and what it has at hand now."""

    waiting: int
    """Jobs and other commands that are in no batch at the moment."""
    decodes: int
    """Jobs that answer, at work or waiting."""
    prefills: int
    keep_hots: int
    kept_tokens: int
    """Tokens that left the cells and went to memory."""
    dropped_tokens: int
    """Tokens that left the cells and are nowhere since."""
    forgotten_tokens: int
    """Tokens that left memory because its limit was met."""
    restored_tokens: int
    """Tokens that came back from memory into cells."""
    fetched_tokens: int
    """Tokens that came back from the disk into cells."""
    computed_tokens: int
    """Tokens that were computed, whatever for."""
    memory_tier: int
    """Bytes that are kept in memory."""
    disk: DiskTold | None = None
    """None without a disk tier."""


class Nothing(msgspec.Struct, frozen=True, tag=True):
    """Done, and nothing to say."""


Answer: TypeAlias = (
    TokenLists
    | PieceList
    | Embedded
    | Opened
    | Advanced
    | Generated
    | RawLogits
    | Weighed
    | KvPiece
    | KvTaken
    | Loaded
    | Measured
    | Framed
    | Checked
    | Tallied
    | Nothing
)
