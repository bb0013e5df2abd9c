"""Where branches live. Sessions see one interface and cannot tell which kind of backend stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.engine.work import Compute, Finish, Replay, Reuse, Work

Told = Callable[[int, int], None]
"""Hears how far a job is: tokens done, tokens to do."""

Emit = Callable[[int], Finish | None]
"""Takes the next token of an answer and says whether the answer ends with it."""


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

    def open(self, branch: str) -> None:
        """A new branch, empty."""
        ...

    def close(self, branch: str) -> None:
        """Forget a branch."""
        ...

    def tokens(self, branch: str) -> list[int]:
        """What the branch holds."""
        ...

    def advance(self, branch: str, tokens: Sequence[int], told: Told) -> Work[Reuse]:
        """Bring the branch to exactly these tokens. Raises NoRoom."""
        ...

    def generate(
        self, branch: str, tokens: Sequence[int], sampling: Sampling, max_tokens: int, emit: Emit
    ) -> Work[Finish]:
        """Bring the branch to these tokens, then extend it token by token until `emit` or the model ends it."""
        ...

    def logits(self, branch: str, tokens: Sequence[int]) -> Work[bytes]:
        """Bring the branch to these tokens; the logits after them, native float32. Raises Unsupported."""
        ...

    def compute(self, wishes: Sequence[Compute | Replay]) -> list[Exception | None]:
        """Try these wishes in one batch; for each the error that is its alone, or None. A wish may have been
        fulfilled in part: its job looks at what stands.
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

    def shut(self) -> None:
        """Give everything back."""
        ...
