"""What the daemon and an engine process say to each other: length-prefixed msgpack over a socket pair.

Not pickle: an engine runs native code over files from anywhere, and the daemon must not run what it sends.
Tokens travel as native 32-bit numbers in one piece of bytes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import msgspec

from sessiond.adapters.base import ContextSettings, ModelFacts, ModelSettings, Sampling

PREFIX = struct.Struct("<I")
T = TypeVar("T")

MAX_FRAME = 1 << 30
"""Bytes. A longer frame is a fault of the other side."""


class Command(msgspec.Struct, frozen=True, tag=True):
    """From the daemon. `id` is of its choosing; every answer carries it."""

    id: int


class Load(Command, frozen=True, tag=True):
    """The first command: which model, through which adapter."""

    adapter: str
    model: str
    settings: ModelSettings
    memory_tier: int = 0
    """Bytes of KV that may be kept in memory beside the cells."""
    disk_folder: str = ""
    """Where KV is kept that outlives the engine; empty is nowhere. No other engine uses it."""
    disk_tier: int = 0
    """Bytes that it may take."""


class Measure(Command, frozen=True, tag=True):
    """Time the ways in which this model can be run here; nothing else is done meanwhile. Answered by Done with Measured."""


class Tokenize(Command, frozen=True, tag=True):
    """Each text by itself. Answered by Done with TokenLists."""

    texts: list[str]
    parse_special: bool = False


class Pieces(Command, frozen=True, tag=True):
    """The bytes of tokens. Answered by Done with PieceList."""

    tokens: bytes


class Frame(Command, frozen=True, tag=True):
    """The texts around messages of these roles; see `frames.frame`. Answered by Done with Framed."""

    prompt_format: str
    roles: list[str]


class Open(Command, frozen=True, tag=True):
    """A branch in an arena, which is made if it is new. Answered by Done with Opened."""

    branch: str
    arena: str
    settings: ContextSettings
    parent: str = ""
    """The branch of the same arena where it is to stand; empty for the root."""
    kv_limit: int = 0
    """Bytes that the cells of a new arena may take; 0 is no limit."""
    workspace: str = ""
    """Whose KV a new arena holds: on the disk nothing of one workspace is found from another."""


class Close(Command, frozen=True, tag=True):
    """Forget a branch; an arena without branches is given back. Answered by Done."""

    branch: str


class Park(Command, frozen=True, tag=True):
    """Give back the cells of an arena on which no job runs. Answered by Done, and told by ArenaState if it was done."""

    arena: str


class Flush(Command, frozen=True, tag=True):
    """Write to the disk what is not written yet, for so many seconds at most. Answered by Done."""

    seconds: float


class Check(Command, frozen=True, tag=True):
    """Compare every arena with its backend. Answered by Done with Checked, or by Failed where they do not agree."""


class Tally(Command, frozen=True, tag=True):
    """Say what was done and what waits. Answered by Done with Tallied, also while a batch is computed."""


class Advance(Command, frozen=True, tag=True):
    """Bring a branch to tokens. Answered by Progress, then Done with Advanced."""

    branch: str
    tokens: bytes
    borders: bytes = b""
    """Positions, packed as tokens are, at which others are likely to part from these tokens."""
    background: bool = False
    """Nobody waits for it."""
    patience_s: float | None = None
    """Seconds after which whoever asked gives up."""


class Generate(Command, frozen=True, tag=True):
    """Bring a branch to tokens and go on from there. Answered by Piece, then Done with Generated."""

    branch: str
    tokens: bytes
    sampling: Sampling
    max_tokens: int
    stop: list[str]
    patience_s: float | None = None


class Logits(Command, frozen=True, tag=True):
    """Bring a branch to tokens. Answered by Done with the logits after them, native float32."""

    branch: str
    tokens: bytes


class Cancel(Command, frozen=True, tag=True):
    """End the job `job` soon. Not answered itself; the job answers Failed("cancelled")."""

    job: int


AnyCommand: TypeAlias = (
    Load
    | Measure
    | Tokenize
    | Pieces
    | Frame
    | Open
    | Close
    | Park
    | Flush
    | Check
    | Tally
    | Advance
    | Generate
    | Logits
    | Cancel
)


class TokenLists(msgspec.Struct, frozen=True, tag=True):
    """Tokens of each text."""

    lists: list[bytes]


class PieceList(msgspec.Struct, frozen=True, tag=True):
    """Bytes of each token."""

    pieces: list[bytes]


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


class RawLogits(msgspec.Struct, frozen=True, tag=True):
    """Native float32."""

    logits: bytes


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
    memory_tier: int
    """Bytes that are kept in memory."""
    disk: DiskTold | None = None
    """None without a disk tier."""


class Nothing(msgspec.Struct, frozen=True, tag=True):
    """Done, and nothing to say."""


Answer: TypeAlias = (
    TokenLists
    | PieceList
    | Opened
    | Advanced
    | Generated
    | RawLogits
    | Loaded
    | Measured
    | Framed
    | Checked
    | Tallied
    | Nothing
)


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


class Piece(Event, frozen=True, tag=True):
    """More of an answer."""

    text: str
    tokens: list[int]


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


AnyEvent: TypeAlias = Done | Failed | Progress | Piece | Residence | ArenaState

UNASKED = 0
"""The `id` of an event that answers no command."""

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
_events: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(AnyEvent)


def encode(message: AnyCommand | AnyEvent) -> bytes:
    """One frame, its length first."""
    body = _encoder.encode(message)
    return PREFIX.pack(len(body)) + body


def decode_command(body: bytes) -> AnyCommand:
    """A frame's body. Raises msgspec.DecodeError."""
    return _decoded(_commands, body)


def decode_event(body: bytes) -> AnyEvent:
    """A frame's body. Raises msgspec.DecodeError."""
    return _decoded(_events, body)


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (
        UnicodeDecodeError
    ) as error:  # a tag that is no UTF-8 is told otherwise than all else that is wrong
        raise msgspec.ValidationError(str(error)) from error


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Tokens as native 32-bit numbers."""
    return array("i", tokens).tobytes()


def unpack_tokens(data: bytes) -> list[int]:
    """What `pack_tokens` packed. Raises msgspec.ValidationError for bytes that are no whole numbers."""
    try:
        return array("i", data).tolist()
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error
