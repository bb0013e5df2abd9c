"""An arena over a backend that keeps a prefix cache of its own: the engine keeps the plan, warms by asking for
one token, and reports reuse as the backend tells it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sessiond.adapters.base import (
    Aborted,
    ContextSettings,
    Model,
    PromptContext,
    Sampling,
    Unsupported,
)
from sessiond.daemon.engine.arena import NO_LEGS, Emit, Guessing, Legs, Scored, Told, unheard
from sessiond.daemon.engine.rates import Rates
from sessiond.daemon.engine.work import Batchable, Finish, Reuse, Taken, Waited, Work


class PromptArena:
    """See `Arena`."""

    cell_bytes = 0
    cells = 0
    moves = 0
    parked = False

    def __init__(self, model: Model, context: PromptContext) -> None:
        self._context = context
        self._end_tokens = model.facts.vocab.end_tokens
        self._plans: dict[str, list[int]] = {}
        self._warm_plans: set[str] = set()
        """Branches whose plan the backend was asked for, as it stands."""
        self.rates = Rates()
        self._says = False
        """Whether the backend has ever said what it reused."""

    @property
    def settings(self) -> ContextSettings:
        """See `Arena.settings`."""
        return self._context.settings

    def open(
        self, branch: str, parent: str | None = None, keeps: int | None = None, *, yields: bool = False
    ) -> None:
        """See `Arena.open`. What outlives a branch is the backend's to say."""
        self._plans[branch] = [] if parent is None else list(self._plans[parent])

    def close(self, branch: str) -> None:
        """See `Arena.close`."""
        del self._plans[branch]
        self._warm_plans.discard(branch)

    def tokens(self, branch: str) -> list[int]:
        """See `Arena.tokens`."""
        return list(self._plans[branch])

    def residence(self, branch: str) -> tuple[int, int]:
        """See `Arena.residence`. What the backend keeps, it keeps by itself."""
        return len(self._plans[branch]), 0

    def missing(self, tokens: Sequence[int]) -> int:
        """See `Arena.missing`."""
        return len(tokens)

    def advance(
        self, branch: str, tokens: Sequence[int], told: Told, borders: Sequence[int] = ()
    ) -> Work[Reuse]:
        """See `Arena.advance`."""
        target = list(tokens)
        told(0, len(target))
        cached: int | None = len(target) if self._says or not target else None
        if target and not (branch in self._warm_plans and target == self._plans[branch]):
            cached = yield from self._warm(target)
            self._says = self._says or cached is not None
            self._warm_plans.add(branch)
        self._plans[branch] = target
        told(len(target), len(target))
        if cached is None:
            return Reuse(0, 0, len(target), "unknown")
        return Reuse(cached, 0, len(target) - cached, "reported")

    def _warm(self, target: list[int]) -> Work[int | None]:
        while True:
            try:
                for answered in self._context.answer(target, Sampling(), 1):
                    return answered.cached_tokens
                return None
            except Aborted:
                yield Waited()  # somebody else was meant, or the loop will not resume us

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
        """See `Arena.generate`. Such a backend guesses by itself, if it does. None tells how likely a token was, or follows a grammar."""
        if sampling.grammar or sampling.logprobs:
            raise Unsupported("grammar" if sampling.grammar else "logprobs")
        for end in legs.ends:
            legs.reached((yield from self.advance(branch, tokens[:end], legs.told, legs.borders)))
            yield Waited()  # others have waited for that long enough
        plan = self._plans[branch] = list(tokens)
        self._warm_plans.discard(branch)
        answer = self._context.answer(list(tokens), sampling, max_tokens)
        try:
            for answered in answer:
                if answered.token in self._end_tokens:
                    return Finish("stop")
                plan.append(answered.token)
                finish = emit(answered.token)
                if finish is not None:
                    return finish
                yield Waited()
            return Finish("length")
        except Aborted:
            yield Waited()  # a cancel is thrown in here, and is told as one
            raise
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()

    def logits(self, branch: str, tokens: Sequence[int]) -> Work[bytes]:
        """See `Arena.logits`."""
        yield Waited()
        raise Unsupported("logits")

    def weigh(self, branch: str, tokens: Sequence[int], more: Sequence[int]) -> Work[list[float]]:
        """See `Arena.weigh`."""
        yield Waited()
        raise Unsupported("logprobs")

    def save(self, branch: str, tokens: Sequence[int], start: int, end: int) -> Work[bytes]:
        """See `Arena.save`."""
        yield Waited()
        raise Unsupported("snapshot")

    def load(
        self, branch: str, tokens: Sequence[int], start: int, num_cells: int, payload: bytes
    ) -> Work[Taken]:
        """See `Arena.load`."""
        yield Waited()
        raise Unsupported("snapshot")

    def compute(self, wishes: Sequence[Batchable], standing: Sequence[str]) -> list[Exception | None]:
        """See `Arena.compute`. No job of this arena wishes for anything."""
        raise AssertionError("a prompt arena computes by itself")

    def abort(self) -> None:
        """See `Arena.abort`."""
        self._context.abort()

    def clear_abort(self) -> None:
        """See `Arena.clear_abort`."""
        self._context.clear_abort()

    def check_integrity(self) -> None:
        """See `Arena.check_integrity`. A plan cannot disagree with itself."""

    def shed(self) -> bool:
        """See `Arena.shed`. It holds no cells."""
        return False

    def make_way(self, tokens: int, standing: Sequence[str], *, returns: bool = False) -> None:
        """See `Arena.make_way`. It holds no cells."""

    def write_behind(self, *, in_passing: bool = False) -> float | None:
        """See `Arena.write_behind`. Its KV cannot be had."""
        return None

    def park(self) -> None:
        """See `Arena.park`. There is nothing to give back."""

    def reset(self) -> None:
        """See `Arena.reset`."""
        self._warm_plans.clear()

    def shut(self) -> None:
        """See `Arena.shut`."""
        self._context.close()
