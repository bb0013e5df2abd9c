"""What a turn would bring a session to: found, and refused if need be, before anything moves."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.content import Content
from sessiond.daemon.sessions.fim import ANSWER_TOKENS, NoWindow
from sessiond.daemon.sessions.manifest import Identity, check
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.sessions.sources import PrefixRequest, Sources
from sessiond.daemon.sessions.statuses import Timings
from sessiond.daemon.sessions.suffix import Suffix, SuffixRequest, build_suffix
from sessiond.v1.errors import ContextOverflow, invalid


@dataclass(frozen=True, slots=True)
class Addition:
    """A suffix that was planned, and the tokens after which it comes."""

    base: list[int]
    suffix: Suffix


class Plans:
    """Of one session."""

    def __init__(self, seat: Seat, sources: Sources, identity: Identity, config: SessionConfig) -> None:
        self._seat = seat
        self._sources = sources
        self._identity = identity
        self._format = config.prompt_format
        self._num_ctx = config.context.num_ctx

    async def prefix(self, request: PrefixRequest, timings: Timings) -> Prefix:
        """The prefix that is asked for. Raises if it is not what the client expects, or would not fit."""
        begun = time.monotonic()
        new = await self._sources.prefix(request)
        timings.tokenize_ms += (time.monotonic() - begun) * 1e3
        check(request.expect, new.manifest)
        if len(new.tokens) > self._num_ctx:
            raise ContextOverflow("prefix", 0, len(new.tokens), self._num_ctx)
        return new

    def forget(self) -> None:
        """See `Sources.forget`."""
        self._sources.forget()

    async def suffix(
        self,
        request: SuffixRequest,
        prefix: Prefix,
        standing: Content | None,
        timings: Timings,
        answer: int = 0,
    ) -> Addition:
        """What is asked to be added after `prefix`, or after all that is `standing` behind it. A fill in the middle leaves
        room for `answer` tokens, or for what is usual where that is 0. Raises if the context is not what the client expects,
        or it would not fit.
        """
        check(request.expect, prefix.manifest)
        if standing is None or request.replace:
            standing = Content.of(prefix, self._format)
        begun = time.monotonic()
        base = standing.tokens
        opening = [self._seat.facts.vocab.bos or 0] if not base and self._identity.add_bos else []
        free = self._num_ctx - len(base) - len(opening)
        room = free - (answer or min(ANSWER_TOKENS, free // 4))
        try:
            suffix = await build_suffix(self._seat, self._format, request, standing.roles, room)
        except NoWindow as error:
            needed = self._num_ctx - len(base) - room + error.tokens
            raise ContextOverflow("suffix", len(base), needed, self._num_ctx) from error
        if suffix.tokens:
            suffix = replace(suffix, tokens=[*opening, *suffix.tokens])
        timings.tokenize_ms += (time.monotonic() - begun) * 1e3
        if len(base) + len(suffix.tokens) > self._num_ctx:
            raise ContextOverflow("suffix", len(base), len(suffix.tokens), self._num_ctx)
        return Addition(base, suffix)

    def check_room(self, standing: int, max_tokens: int) -> None:
        """Raises if an answer after `standing` tokens would not fit, or has nothing to go on from."""
        room = self._num_ctx - standing
        if max_tokens > room or room == 0:
            raise ContextOverflow("decode", standing, max(1, max_tokens), self._num_ctx)
        if not standing:
            raise invalid("name", "there is nothing to go on from: no prefix, no suffix")
