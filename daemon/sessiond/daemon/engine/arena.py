"""Where branches live. Sessions see one interface and cannot tell which kind of backend stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sessiond.adapters.base import ContextSettings, Likely, Sampling
from sessiond.daemon.engine.rates import Rates
from sessiond.daemon.engine.work import Batchable, Finish, Reuse, Taken, Work

Told = Callable[[int, int], None]
"""Hears how far a job is: tokens done, tokens to do."""

Emit = Callable[[int], Finish | None]
"""Takes the next token of an answer and says whether the answer ends with it."""

Scored = Callable[[Likely], object]
"""Hears how likely the token was that is emitted next, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Guessing:
    """That an answer may be guessed ahead, from what was said before."""

    named: Sequence[tuple[int, int]] = ()
    """Ranges of the tokens before it, from and to, that it is the likeliest to repeat; the foremost first."""


@dataclass(frozen=True, slots=True)
class Legs:
    """The parts of a branch's way to the tokens after which an answer begins, and who is told of them."""

    ends: Sequence[int] = ()
    """After how many of these tokens each of them ends."""
    borders: Sequence[int] = ()
    """As in `Arena.advance`."""
    told: Told = lambda _done, _total: None
    """Hears how far the one is that is under way."""
    reached: Callable[[Reuse], object] = lambda _reuse: None
    """Hears what each took, when it is done."""


NO_LEGS = Legs()
"""Nothing is told of the way."""


def unheard(_likely: Likely) -> None:
    """A `Scored` for those who did not ask."""


class Arena(Protocol):
    """Branches over one context of a backend. All calls but `abort` come from the loop's thread."""

    @property
    def settings(self) -> ContextSettings:
        """What the backend runs with."""
        ...

    @property
    def cell_bytes(self) -> int:
        """Bytes of KV for each token; 0 if the backend does not say."""
        ...

    @property
    def cells(self) -> int:
        """Tokens that all branches together may hold; 0 if the backend does not say."""
        ...

    @property
    def moves(self) -> int:
        """Grows whenever KV of a branch may have moved without it."""
        ...

    @property
    def parked(self) -> bool:
        """Whether the cells are given back."""
        ...

    @property
    def rates(self) -> Rates:
        """How fast it computes and restores."""
        ...

    def open(
        self, branch: str, parent: str | None = None, keeps: int | None = None, *, yields: bool = False
    ) -> None:
        """A new branch, empty or where another one stands. Of one that `keeps` so many tokens, from the first, no more
        outlive it. One that `yields` gives up its cells while it is idle, kept elsewhere or not.
        """
        ...

    def close(self, branch: str) -> None:
        """Forget a branch."""
        ...

    def tokens(self, branch: str) -> list[int]:
        """What the branch holds."""
        ...

    def residence(self, branch: str) -> tuple[int, int]:
        """How many of the branch's tokens, from the first, are in the backend's cells, and how many follow in memory."""
        ...

    def missing(self, tokens: Sequence[int]) -> int:
        """How many of these tokens would have to be computed, or restored, as things stand."""
        ...

    def advance(
        self, branch: str, tokens: Sequence[int], told: Told, borders: Sequence[int] = ()
    ) -> Work[Reuse]:
        """Bring the branch to exactly these tokens. Raises NoRoom.

        `borders` are positions at which others are likely to part from these tokens: where segments end.
        """
        ...

    def generate(
        self,
        branch: str,
        tokens: Sequence[int],
        sampling: Sampling,
        max_tokens: int,
        emit: Emit,
        scored: Scored = unheard,
        guessing: Guessing | None = None,
        legs: Legs = NO_LEGS,
    ) -> Work[Finish]:
        """Bring the branch to these tokens, as `advance` does for each of the legs, then extend it token by token until
        `emit`, the model or its grammar ends it. The last token of the answer is computed too, so that all of it is resident.
        `guessing` may only make it faster.

        `scored` hears of each token before `emit` does, if `sampling.logprobs` asks for it. Raises Unsupported for what the
        backend cannot do, and SettingsError on "grammar" for a grammar that is none, or takes more than it may.
        """
        ...

    def logits(self, branch: str, tokens: Sequence[int]) -> Work[bytes]:
        """Bring the branch to these tokens; the logits after them, native float32. Raises Unsupported."""
        ...

    def weigh(self, branch: str, tokens: Sequence[int], more: Sequence[int]) -> Work[list[float]]:
        """Bring the branch to these tokens, of which there is one at least; how likely each of `more` is after all before it:
        the natural logarithm of its probability, before any sampler. The branch goes on along `more`. Raises Unsupported.
        """
        ...

    def save(self, branch: str, tokens: Sequence[int], start: int, end: int) -> Work[bytes]:
        """Bring the branch to these tokens; the KV of those from `start` to `end`. Raises Unsupported."""
        ...

    def load(
        self, branch: str, tokens: Sequence[int], start: int, num_cells: int, payload: bytes
    ) -> Work[Taken]:
        """Bring the branch to these tokens, the KV of those from `start` on being what `save` gave in an arena of so many
        cells: it is computed where there are more or fewer, since their number may decide how positions are rotated. Raises
        Unsupported.
        """
        ...

    def compute(self, wishes: Sequence[Batchable], standing: Sequence[str]) -> list[Exception | None]:
        """Try these wishes in one batch; for each the error that is its alone, or None.

        `standing` names the branches of all jobs at hand, the foremost first: none takes room from one before it.
        """
        ...

    def abort(self) -> None:
        """Make the running or the next step stop soon. Any thread."""
        ...

    def clear_abort(self) -> None:
        """Take `abort` back. Any thread."""
        ...

    def check_integrity(self) -> None:
        """Compare what is planned with what the backend reports. Raises AssertionError."""
        ...

    def shed(self) -> bool:
        """Move a little of what the branch used last does not need out of the cells, if that is much, so that it is
        computed on faster. Whether something was moved: then there may be more.
        """
        ...

    def make_way(self, tokens: int, standing: Sequence[str], *, returns: bool = False) -> None:
        """So many tokens are about to be computed for jobs of these branches, or KV `returns` to one of them: move out of the
        cells what would slow that down by more than it takes to bring it back.
        """
        ...

    def write_behind(self, *, in_passing: bool = False) -> float | None:
        """Have the disk keep a little of what it has not yet. In how many seconds to come again; None if that was all.
        `in_passing` says that jobs are at work.
        """
        ...

    def park(self) -> None:
        """Give the cells back; what is worth it stays in memory. The next step takes cells again."""
        ...

    def reset(self) -> None:
        """Forget all KV. The branches stand at the root."""
        ...

    def shut(self) -> None:
        """Give everything back."""
        ...
