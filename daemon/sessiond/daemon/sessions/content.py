"""What a session is: the tokens of its prefix, and of what was added after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from sessiond.daemon.engine.frames import RAW
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.sessions.suffix import FIM_ROLE


@dataclass(frozen=True, slots=True)
class Content:
    """Never changed, only replaced: a fork may hold the same."""

    prefix: Prefix
    tail: tuple[int, ...] = ()
    """Suffixes and generated text."""
    roles: tuple[str, ...] = ()
    """Of the messages that stand, the one for the prefix included."""

    @classmethod
    def of(cls, prefix: Prefix, prompt_format: str) -> Content:
        """A prefix and nothing else. A framed one stands for a system message."""
        return cls(prefix, (), ("system",) if prefix.tokens and prompt_format != RAW else ())

    @property
    def tokens(self) -> list[int]:
        """All of them."""
        return [*self.prefix.tokens, *self.tail]

    @property
    def size(self) -> int:
        """How many tokens."""
        return len(self.prefix.tokens) + len(self.tail)

    def with_tokens(self, tokens: Sequence[int], roles: tuple[str, ...]) -> Content:
        """The same prefix, and after it what `tokens`, which begin with it, have more."""
        return Content(self.prefix, tuple(tokens[len(self.prefix.tokens) :]), roles)

    def answered(self, tokens: Sequence[int]) -> Content:
        """After an answer, or a part of one."""
        if not tokens:
            return self
        # What fills a middle is no message, and what goes on an answer is none of its own.
        goes_on = bool(self.roles) and self.roles[-1] in {"assistant", FIM_ROLE}
        roles = self.roles if goes_on else (*self.roles, "assistant")
        return Content(self.prefix, (*self.tail, *tokens), roles)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens the two share from the first."""
    limit = min(len(a), len(b))
    if list(a[:limit]) == list(b[:limit]):
        return limit
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
