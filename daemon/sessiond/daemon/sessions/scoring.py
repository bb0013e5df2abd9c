"""How likely given texts are as what comes next in a session: beside it, so that it stays as it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.sessions.lanes import lanes
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot.threads import to_the_end
from sessiond.daemon.sessions.statuses import Timings
from sessiond.v1.errors import (
    ContextOverflow,
    FieldViolation,
    InvalidInput,
    SessionUnavailable,
    UnsupportedFeature,
    invalid,
)


@dataclass(frozen=True, slots=True)
class Continuation:
    """One text that was scored: its tokens, their bytes, and the natural logarithms of their probabilities."""

    token_ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    logprobs: tuple[float, ...]


async def score(session: Session, texts: Sequence[str], timings: Timings) -> list[Continuation]:
    """Each text after all that the session is, in the order given. Texts that are alike are computed once.

    Raises SessionBusy, UnsupportedFeature, InvalidInput for a text without tokens, and ContextOverflow, all before anything
    is computed, and SessionUnavailable.
    """
    facts = session.engine.facts
    if not facts.capabilities.logprobs:
        raise UnsupportedFeature("logprobs", facts.backend)
    async with session.scoring() as (tokens, told):
        begun = timings.since_arrival()
        runs = [tuple(run) for run in await session.home.seat.tokenize(list(texts))]
        timings.tokenize_ms += timings.since_arrival() - begun
        _check(session, tokens, runs)
        unlike = list(dict.fromkeys(runs))
        begun = timings.since_arrival()
        found = await _Weighing(session, tokens, unlike, told, timings).all()
        timings.prefill_ms += max(0.0, timings.since_arrival() - begun - timings.queue_ms)
        return [found[run] for run in runs]


def _check(session: Session, tokens: Sequence[int], runs: Sequence[tuple[int, ...]]) -> None:
    if not tokens:
        raise invalid("name", "there is nothing to go on from: no prefix, no suffix")
    without = [index for index, run in enumerate(runs) if not run]
    if without:
        raise InvalidInput([FieldViolation(f"continuations[{index}]", "has no tokens") for index in without])
    longest, num_ctx = max(map(len, runs)), session.config.context.num_ctx
    if len(tokens) + longest > num_ctx:
        raise ContextOverflow("score", len(tokens), longest, num_ctx)


class _Weighing:
    """Of some token runs after the same tokens, a few at a time."""

    def __init__(
        self,
        session: Session,
        tokens: list[int],
        runs: Sequence[tuple[int, ...]],
        told: Callable[[int, int], None],
        timings: Timings,
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._runs = runs
        self._told = told
        self._timings = timings
        self._found: dict[tuple[int, ...], Continuation] = {}

    async def all(self) -> dict[tuple[int, ...], Continuation]:
        """All of them. Raises what the first one failed of."""
        left = deque(self._runs)
        self._tell()
        width = lanes(self._session.home, len(self._tokens), max(map(len, self._runs)))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(width, len(left))):
                    group.create_task(self._while_there_is_room(left))
        except BaseExceptionGroup as failed:  # all of them fail of one engine, or of one end of the session
            raise failed.exceptions[0] from None
        # Whatever had no room beside the others has it alone, or not at all: each fits into the window.
        if left and (none := await self._while_there_is_room(left)):
            raise SessionUnavailable(f"the cells that it takes are held by others: {none}") from none
        return self._found

    async def _while_there_is_room(self, left: deque[tuple[int, ...]]) -> EngineFailed | None:
        """What is left, one after the other, until nothing is or one finds no room: that is left then, and its failure is
        returned.
        """
        while left:
            run = left.popleft()
            try:
                self._found[run] = await self._one(run)
            except EngineFailed as failed:
                if failed.kind != "no_room":
                    raise
                left.appendleft(run)
                return failed
            self._tell()
        return None

    async def _one(self, run: tuple[int, ...]) -> Continuation:
        """On a branch of its own: with the branch goes all that was computed for it."""
        self._session.check_alive()
        spares = self._session.spares
        branch = spares.passing(self._session.home, keeps=len(self._tokens))
        try:
            with spares.known(branch):
                async with branch.turn():
                    weighed: wire.Weighed = await branch.weigh(self._tokens, run, self._timings.patience)
        finally:
            await to_the_end(branch.close())
        self._timings.queue_ms = max(self._timings.queue_ms, weighed.queue_ms)
        return Continuation(run, tuple(weighed.pieces), tuple(weighed.logprobs))

    def _tell(self) -> None:
        self._told(sum(map(len, self._found)), sum(map(len, self._runs)))
