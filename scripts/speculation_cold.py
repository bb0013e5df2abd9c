"""Greedy answers through the engine's own arena, each from cold: its cells are empty, so that nothing but the shape of what is
computed can make another answer of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from sessiond.adapters.base import ContextSettings, KvContext, Model, Sampling
from sessiond.daemon.engine.arena import Guessing
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Cancelled, Job, Loop
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish

ANSWER, OTHER = "answer", "other"
IDS = {ANSWER: 1, OTHER: 2}
"""Of their jobs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the work is cut."""

    num_ubatch: int = 512
    """Tokens of the prompt that are computed at once."""
    guesses: bool = False
    beside: bool = False
    """Whether another answer, that never ends, has a token in each step."""


@dataclass(slots=True)
class Cold:
    """One arena that computes in one shape."""

    model: Model
    shape: Shape
    num_ctx: int
    arena: KvArena = field(init=False)
    drafted: int = 0
    accepted: int = 0

    def __post_init__(self) -> None:
        settings = ContextSettings(
            num_ctx=self.num_ctx, num_batch=self.num_ctx, num_ubatch=self.shape.num_ubatch
        )
        context = self.model.new_context(settings)
        if not isinstance(context, KvContext):
            raise TypeError("a backend without KV computes nothing in batches")
        self.arena = KvArena(self.model, context)

    def say(self, prompt: Sequence[int], count: int) -> list[int]:
        """The answer's tokens, at most so many."""
        self.arena.reset()
        loop = Loop()
        with self._another(loop, prompt[:1]) if self.shape.beside else contextlib.nullcontext():
            answer = _Running(self.arena, loop, ANSWER, prompt, Sampling(), count, self._guessing())
            while not answer.ended:
                loop.turn()
        self.arena.close(ANSWER)
        [finish] = answer.ended
        if not isinstance(finish, Finish):
            raise RuntimeError(f"the answer failed: {finish!r}")
        self.drafted, self.accepted = self.drafted + finish.drafted, self.accepted + finish.accepted
        return answer.said

    def _guessing(self) -> Guessing | None:
        return Guessing() if self.shape.guesses else None

    @contextlib.contextmanager
    def _another(self, loop: Loop, prompt: Sequence[int]) -> Generator[None]:
        """An answer without end that runs meanwhile."""
        never = tuple((token, -math.inf) for token in self.model.facts.vocab.end_tokens)
        other = _Running(self.arena, loop, OTHER, prompt, Sampling(logit_bias=never), self.num_ctx // 2)
        while not other.said:
            loop.turn()
        yield
        loop.cancel(other.id)
        while not other.ended:
            loop.turn()
        self.arena.close(OTHER)
        if not isinstance(other.ended[0], Cancelled):
            raise RuntimeError(f"the other answer ended meanwhile: {other.ended[0]!r}")

    def close(self) -> None:
        """Give the cells back."""
        self.arena.shut()


class _Running:
    """An answer on a branch of its own, and what it has said."""

    def __init__(
        self,
        arena: KvArena,
        loop: Loop,
        branch: str,
        prompt: Sequence[int],
        sampling: Sampling,
        count: int,
        guessing: Guessing | None = None,
    ) -> None:
        self.id = IDS[branch]
        self.said: list[int] = []
        self.ended: list[object] = []
        arena.open(branch)
        work = arena.generate(branch, prompt, sampling, count, self.said.append, guessing=guessing)
        job = Job(self.id, branch, arena, Rank.DECODE, work, self.ended.append, self.ended.append)
        loop.call(lambda: loop.submit(job))
