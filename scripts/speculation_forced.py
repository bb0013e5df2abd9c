"""Answers that say what they are told to, token by token, through the engine's own arena: what guessing gains, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sessiond.adapters.base import ContextSettings, KvContext, Model, Sampler, Sampling
from sessiond.daemon.engine.arena import Guessing
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Job, Loop
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish

BRANCH = "answer"


class _Told:
    """A context whose samplers choose what they would, and answer what they are told."""

    def __init__(self, context: KvContext) -> None:
        self._context = context
        self.tokens: Sequence[int] = ()
        self._said = 0

    def tell(self, tokens: Sequence[int]) -> None:
        self.tokens, self._said = tokens, 0

    def sample(self, run: int, sampler: Sampler, back: int = 0) -> int:
        self._context.sample(run, sampler, back)
        self._said += 1
        return self.tokens[self._said - 1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@dataclass(slots=True)
class Told:
    """One arena: with guesses or without."""

    model: Model
    guessing: Guessing | None
    num_ctx: int
    arena: KvArena = field(init=False)
    drafted: int = 0
    accepted: int = 0
    _context: _Told = field(init=False)

    def __post_init__(self) -> None:
        context = self.model.new_context(ContextSettings(num_ctx=self.num_ctx))
        self._context = _Told(cast("KvContext", context))
        self.arena = KvArena(self.model, cast("KvContext", self._context))

    def token_ms(self, prompt: Sequence[int], answer: Sequence[int]) -> float:
        """Milliseconds for each token of the answer after the first. The prompt is computed anew, and does not count."""
        self._context.tell(answer)
        self.arena.reset()
        self.arena.open(BRANCH)
        stamps: list[float] = []

        def emit(_token: int) -> Finish | None:
            stamps.append(time.perf_counter())
            return None

        ended: list[object] = []
        work = self.arena.generate(BRANCH, prompt, Sampling(), len(answer), emit, guessing=self.guessing)
        job = Job(1, BRANCH, self.arena, Rank.DECODE, work, ended.append, ended.append)
        loop = Loop()
        loop.call(lambda: loop.submit(job))
        while not ended:
            loop.turn()
        self.arena.close(BRANCH)
        [finish] = ended
        if not isinstance(finish, Finish):
            raise RuntimeError(f"the answer failed: {finish!r}")
        self.drafted, self.accepted = self.drafted + finish.drafted, self.accepted + finish.accepted
        return (stamps[-1] - stamps[0]) * 1e3 / (len(stamps) - 1)

    def close(self) -> None:
        """Give the cells back."""
        self.arena.shut()
