"""The first kind of backend: one that exposes its KV, so that the engine's tree can drive it.

A context holds cells. A sequence is a set of cells at positions 0 to n-1; several sequences may share a cell.
A context belongs to one thread, but for `abort` and `clear_abort`, which any thread may call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sessiond.adapters.base.settings import ContextSettings


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens of one sequence, to be computed in one batch."""

    sequence: int
    position: int
    """Position of the first token; equal to `end(sequence)`."""
    tokens: Sequence[int]
    want_logits: int = 0
    """Of how many of its last tokens the logits are kept."""


@dataclass(frozen=True, slots=True)
class Held:
    """Logits of a run that outlive the next decode: what `KvContext.logits` gave, that after the last token first."""

    rows: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Likely:
    """Tokens, and the natural logarithms of their probabilities before any sampler."""

    taken: tuple[int, float]
    """The token that was chosen."""
    top: tuple[tuple[int, float], ...]
    """The likeliest ones, likeliest first; of two alike the one with the smaller id."""


class Sampler(Protocol):
    """Chooses tokens for one stream and remembers those it chose. Valid until `close`."""

    def prime(self, tokens: Sequence[int]) -> None:
        """Take these tokens as already chosen, so that penalties count them. A grammar begins after them."""
        ...

    @property
    def ended(self) -> bool:
        """Whether its grammar is complete, and nothing can follow. Without a grammar it never is."""
        ...

    def close(self) -> None:
        """Give back what it holds. Twice is once."""
        ...


@runtime_checkable
class KvContext(Protocol):
    """Cells, and the right to fill them. Valid until `close` or until its model is closed."""

    @property
    def settings(self) -> ContextSettings:
        """What the backend runs with: nothing is left open in it."""
        ...

    @property
    def max_sequences(self) -> int:
        """Sequences are numbered from 0 to this, exclusive."""
        ...

    @property
    def cells(self) -> int:
        """Tokens that all sequences together may hold; one that several share counts once."""
        ...

    @property
    def cell_bytes(self) -> int:
        """Bytes of KV for each token."""
        ...

    @property
    def more_rows(self) -> int:
        """Rows of logits that one `decode` keeps beside one for each run."""
        ...

    @property
    def rounding(self) -> float:
        """By how much the distance of two logits may well change with the shape of the batch in which they are computed; 0 if
        they do not depend on it.
        """
        ...

    def decode(self, runs: Sequence[Run]) -> None:
        """Compute these runs in one batch, at most `settings.num_batch` tokens together.

        Raises NoRoom (nothing was computed), Aborted (finished micro-batches remain), BackendError.
        """
        ...

    def logits(self, run: int | Held, back: int = 0) -> bytes:
        """Logits after that run of the last `decode`, or `back` tokens before its end, where those were wanted; native
        float32, one for each token of the vocabulary.
        """
        ...

    def sample(self, run: int | Held, sampler: Sampler, back: int = 0) -> int:
        """The next token by the logits of the same place. The sampler remembers it.

        Raises SettingsError on "grammar" where the sampler's grammar allows no token, or takes more than it may; and may on
        "logit_bias" where that forbids every token.
        """
        ...

    def likely(self, run: int | Held, token: int, count: int, back: int = 0) -> Likely:
        """How likely a token was by the logits of the same place, and which `count` ones were the likeliest."""
        ...

    def lead(self, run: int | Held, back: int = 0) -> float:
        """How far the largest logit of the same place is above the next one."""
        ...

    def end(self, sequence: int) -> int:
        """How many positions the sequence holds; 0 for an empty one."""
        ...

    def checkpoint(self, sequence: int) -> bytes:
        """What `truncate` and `share` need to return to where the sequence ends now, once it has gone on.

        Empty where the backend can cut a sequence anywhere, and needs nothing.
        """
        ...

    def truncate(self, sequence: int, end: int, checkpoint: bytes = b"") -> bool:
        """Keep positions below `end`. False if the backend cannot: then the sequence is as it was.

        A backend that cannot cut needs the checkpoint that was taken of these very tokens at `end`.
        """
        ...

    def drop(self, sequence: int) -> None:
        """Empty the sequence. Cells that no other sequence shares become free."""
        ...

    def share(self, source: int, target: int, end: int, checkpoint: bytes = b"") -> None:
        """Let the empty sequence `target` share the cells of `source` below `end`. Copies no cell.

        A backend that cannot cut needs, unless `end` is where the source ends, the checkpoint that was taken of
        these very tokens at `end`; without one it raises Unsupported("truncate").
        """
        ...

    def save(self, sequence: int, start: int = 0, end: int | None = None) -> bytes:
        """The KV of the positions from `start` to `end` of the sequence, or to where it ends, for `load`. The sequence stays
        as it is, and no other one is needed for it.

        Raises BackendError for positions that the sequence has not. A backend that cannot cut raises
        Unsupported("truncate") unless that is the whole sequence.
        """
        ...

    def load(self, sequence: int, state: bytes, start: int = 0, skip: int = 0) -> None:
        """Append to the sequence, which ends at `start`, what `save` gave for the positions from `start` on; or for `skip`
        positions more before it, which the sequence has and keeps as they are: they take no cells.

        The caller answers for it that the tokens below `start` are those that stood there when it was saved.
        Raises NoRoom or BackendError and leaves the sequence as it was. Logits come with no state. A backend that cannot cut
        raises Unsupported("truncate") for a `skip`.
        """
        ...

    def abort(self) -> None:
        """Make a running or the next `decode` stop soon. Any thread."""
        ...

    def clear_abort(self) -> None:
        """Let `decode` run again. Any thread."""
        ...

    def close(self) -> None:
        """Give the cells back. Twice is once."""
        ...
