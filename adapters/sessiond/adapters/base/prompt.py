"""The second kind of backend: one that keeps a prefix cache of its own and takes whole prompts.

The engine keeps the plan, warms by asking for one token, and reports reuse as the backend tells it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sessiond.adapters.base.settings import ContextSettings, Sampling


@dataclass(frozen=True, slots=True)
class Prompted:
    """One token of an answer."""

    token: int
    cached_tokens: int | None
    """Tokens of the prompt that the backend's cache had; None if it does not say."""


class PromptContext(Protocol):
    """A place to send prompts to. Valid until `close` or until its model is closed."""

    @property
    def settings(self) -> ContextSettings:
        """What the backend runs with: nothing is left open in it."""
        ...

    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Iterator[Prompted]:
        """The tokens that follow the prompt, one by one; it ends after an end token (which it yields) or
        after `max_tokens`. Closing the iterator stops the backend. Raises Aborted, NoRoom, BackendError.
        """
        ...

    def abort(self) -> None:
        """Make a running or the next `answer` stop soon. Any thread."""
        ...

    def clear_abort(self) -> None:
        """Let `answer` run again. Any thread."""
        ...

    def close(self) -> None:
        """Give back what it holds. Twice is once."""
        ...
