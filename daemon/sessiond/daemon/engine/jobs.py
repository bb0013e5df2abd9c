"""Commands that take time, made into jobs of the loop: what they do, how urgent they are, and what they answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sessiond.adapters.base import Likely, Model
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.arena import Arena, Guessing, Legs, Told
from sessiond.daemon.engine.arenas import Arenas
from sessiond.daemon.engine.loop import LONG_S, Job
from sessiond.daemon.engine.outbox import Outbox
from sessiond.daemon.engine.schedule import Rank, due
from sessiond.daemon.engine.text import TextAssembler
from sessiond.daemon.engine.work import Finish, Reuse, Work

JobCommand: TypeAlias = wire.Advance | wire.Generate | wire.Logits | wire.Weigh | wire.SaveKv | wire.LoadKv

Tell = Callable[[Any, float, float], wire.Answer]
"""A result as an answer, given how long the job waited and how long it took since, in milliseconds; of what was told of parts of
it before, neither.
"""

Failed = Callable[[int, BaseException, list[int] | None], None]
"""Hears of a command that failed, and what its branch has in cells."""


@dataclass(slots=True)
class _Timed:
    """A job and its clock."""

    arrived: float = field(default_factory=time.monotonic)
    job: Job = field(init=False)
    _lapped: float = 0.0
    """When its last part ended; 0 before any did."""

    def lap(self) -> tuple[float, float]:
        """A part of it is done: for how many milliseconds it waited before, and how many the part took."""
        before, self._lapped = self._lapped, time.monotonic()
        waited = 0.0 if before else self.job.began - self.arrived
        return waited * 1e3, (self._lapped - (before or self.job.began)) * 1e3


class JobMaker:
    """See the module. In the loop's thread."""

    def __init__(self, model: Model, arenas: Arenas, outbox: Outbox) -> None:
        self._model = model
        self._arenas = arenas
        self._outbox = outbox

    def make(self, command: JobCommand, failed: Failed) -> Job:
        """The job of a command. Raises BackendError for an unknown branch."""
        arena = self._arenas.of(command.branch)
        tokens = wire.unpack_tokens(command.tokens)
        timed = _Timed()
        work, rank, tell = self._work(command, arena, tokens, timed)

        def done(result: Any) -> None:
            self._outbox.keep(wire.Done(command.id, tell(result, *timed.lap())))

        def failure(error: BaseException) -> None:
            resident, _in_memory = arena.residence(command.branch)
            failed(command.id, error, arena.tokens(command.branch)[:resident])

        due_at = _due(command, arena, tokens, timed.arrived)
        timed.job = Job(command.id, command.branch, arena, rank, work, done, failure, due=due_at)
        return timed.job

    def _work(
        self, command: JobCommand, arena: Arena, tokens: list[int], timed: _Timed
    ) -> tuple[Work[Any], Rank, Tell]:
        match command:
            case wire.Advance():
                return self._advance(command, arena, tokens)
            case wire.Generate():
                return self._generation(command, arena, tokens, timed)
            case wire.Logits():
                return (
                    arena.logits(command.branch, tokens),
                    Rank.PREFILL,
                    lambda logits, _queue_ms, _work_ms: wire.RawLogits(logits),
                )
            case wire.Weigh():
                return self._weighing(command, arena, tokens)
            case wire.SaveKv():
                return (
                    arena.save(command.branch, tokens, command.start, command.end),
                    Rank.PREFILL,
                    lambda payload, _queue_ms, _work_ms: wire.KvPiece(payload),
                )
            case wire.LoadKv():
                return (
                    arena.load(command.branch, tokens, command.start, command.num_cells, command.payload),
                    Rank.PREFILL,
                    lambda taken, _queue_ms, _work_ms: wire.KvTaken(taken.prefilled, taken.refused),
                )

    def _advance(
        self, command: wire.Advance, arena: Arena, tokens: list[int]
    ) -> tuple[Work[Reuse], Rank, Tell]:
        borders = wire.unpack_tokens(command.borders)
        rank = Rank.KEEP_HOT if command.background else Rank.PREFILL
        return arena.advance(command.branch, tokens, self._told(command.id), borders), rank, _advanced

    def _told(self, command_id: int) -> Told:
        return lambda done, total: self._outbox.defer(wire.Progress(command_id, done, total))

    def _legs(self, command: wire.Generate, timed: _Timed) -> Legs:
        """Until the last one is done, who waits for the answer waits as for any prefill."""
        left = len(command.legs)

        def reached(reuse: Reuse) -> None:
            nonlocal left
            left -= 1
            queue_ms, work_ms = timed.lap()
            tell = self._outbox.keep if work_ms > LONG_S * 1e3 else self._outbox.defer
            tell(wire.Reached(command.id, _advanced(reuse, queue_ms, work_ms)))
            if not left:
                timed.job.rank = Rank.DECODE

        return Legs(command.legs, wire.unpack_tokens(command.borders), self._told(command.id), reached)

    def _generation(
        self, command: wire.Generate, arena: Arena, tokens: list[int], timed: _Timed
    ) -> tuple[Work[Finish], Rank, Tell]:
        assembler = TextAssembler(command.stop)
        generated: list[int] = []
        scores: list[wire.Scores] = []

        def scored(likely: Likely) -> None:
            scores.append(self._scores(likely))

        def emit(token: int) -> Finish | None:
            # Somebody waits for the first one.
            tell = self._outbox.add if generated else self._outbox.keep
            generated.append(token)
            text = assembler.feed(self._model.pieces([token])[0])
            tell(wire.Piece(command.id, text, [token], scores.copy()))
            scores.clear()
            stopped = assembler.stopped_by
            return Finish("stop_string", stopped) if stopped is not None else None

        def finished(finish: Finish, queue_ms: float, work_ms: float) -> wire.Answer:
            counts, rest = finish, assembler.finish()
            if assembler.stopped_by is not None:
                finish = Finish("stop_string", assembler.stopped_by)
            if rest:
                self._outbox.add(wire.Piece(command.id, rest, []))
            held = wire.pack_tokens(arena.tokens(command.branch))
            return wire.Generated(
                *(finish.reason, finish.stop_string, len(generated), held, queue_ms, work_ms),
                *(counts.drafted, counts.accepted),
            )

        guessing = Guessing(command.named) if command.guesses else None
        work = arena.generate(
            *(command.branch, tokens, command.sampling, command.max_tokens, emit, scored, guessing),
            self._legs(command, timed),
        )
        return work, Rank.PREFILL if command.legs else Rank.DECODE, finished

    def _weighing(
        self, command: wire.Weigh, arena: Arena, tokens: list[int]
    ) -> tuple[Work[list[float]], Rank, Tell]:
        more = wire.unpack_tokens(command.more)

        def weighed(logprobs: list[float], queue_ms: float, _work_ms: float) -> wire.Answer:
            return wire.Weighed(logprobs, self._model.pieces(more), queue_ms)

        return arena.weigh(command.branch, tokens, more), Rank.PREFILL, weighed

    def _scores(self, likely: Likely) -> wire.Scores:
        told = (likely.taken, *likely.top)
        pieces = self._model.pieces([token for token, _ in told])
        taken, *top = (
            wire.Score(token, piece, logprob) for (token, logprob), piece in zip(told, pieces, strict=True)
        )
        return wire.Scores(taken, top)


def _advanced(reuse: Reuse, queue_ms: float, work_ms: float) -> wire.Advanced:
    return wire.Advanced(
        reuse.reused,
        reuse.restored,
        reuse.prefilled,
        reuse.source,
        queue_ms,
        reuse.restore_ms,
        max(0.0, work_ms - reuse.restore_ms),
    )


def _due(command: JobCommand, arena: Arena, tokens: Sequence[int], arrived: float) -> float:
    """When the job should be done, by what it has to compute."""
    patience = command.patience_s if isinstance(command, wire.Advance | wire.Generate | wire.Weigh) else None
    seconds = arena.missing(tokens) / arena.rates.tokens_a_second
    return due(arrived, None if patience is None else arrived + patience, seconds)
