"""What the daemon asks of an engine."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sessiond.adapters.base import ContextSettings, ModelSettings, Sampling


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


class Embed(Command, frozen=True, tag=True):
    """A vector of each text, unless one of them is too long or has no tokens. Answered by Done with Embedded."""

    texts: list[str]
    normalize: bool = False
    """Scale each to the length 1."""


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
    apart: bool = False
    """A new arena holds KV that others answer for: nothing of it goes to the disk, or comes from there."""
    keeps: int | None = None
    """How many of its tokens, from the first, outlive the branch; None for all, until their room is needed."""
    yields: bool = False
    """While it is idle, others may have its cells also where nothing keeps what was there: it is computed again."""


class Close(Command, frozen=True, tag=True):
    """Forget a branch; an arena without branches is given back. Answered by Done."""

    branch: str


class Park(Command, frozen=True, tag=True):
    """Give back the cells of an arena on which no job runs. Answered by Done, and told by ArenaState if it was done."""

    arena: str


class LimitMemory(Command, frozen=True, tag=True):
    """Keep no more than so many bytes of KV in memory beside the cells; what is over goes at once. Answered by Done."""

    memory_tier: int


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
    """Bring a branch to tokens and go on from there. Answered by Progress and Reached for each of `legs`, then Piece, then Done
    with Generated.
    """

    branch: str
    tokens: bytes
    sampling: Sampling
    max_tokens: int
    stop: list[str]
    patience_s: float | None = None
    guesses: bool = False
    """Whether tokens may be guessed ahead."""
    named: list[tuple[int, int]] = []
    """Ranges of the tokens that the answer is the likeliest to repeat."""
    legs: list[int] = []
    """After how many of the tokens each part of the way to them ends."""
    borders: bytes = b""
    """As in Advance."""


class Logits(Command, frozen=True, tag=True):
    """Bring a branch to tokens. Answered by Done with the logits after them, native float32."""

    branch: str
    tokens: bytes


class Weigh(Command, frozen=True, tag=True):
    """Bring a branch to tokens, and on along `more`. Answered by Done with Weighed."""

    branch: str
    tokens: bytes
    more: bytes
    patience_s: float | None = None
    """Seconds after which whoever asked gives up."""


class SaveKv(Command, frozen=True, tag=True):
    """Bring a branch to tokens. Answered by Done with KvPiece: the KV of those from `start` to `end`."""

    branch: str
    tokens: bytes
    start: int
    end: int


class LoadKv(Command, frozen=True, tag=True):
    """Bring a branch to tokens; the KV of those from `start` on is what a SaveKv gave. Answered by Done with KvTaken."""

    branch: str
    tokens: bytes
    start: int
    num_cells: int
    """Where it was computed: where there are more or fewer, it is not taken, and computed."""
    payload: bytes


class Cancel(Command, frozen=True, tag=True):
    """End the job `job` soon. Not answered itself; the job answers Failed("cancelled")."""

    job: int


AnyCommand: TypeAlias = (
    Load
    | Measure
    | Tokenize
    | Pieces
    | Embed
    | Frame
    | Open
    | Close
    | Park
    | LimitMemory
    | Flush
    | Check
    | Tally
    | Advance
    | Generate
    | Logits
    | Weigh
    | SaveKv
    | LoadKv
    | Cancel
)
