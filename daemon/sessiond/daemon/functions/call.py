"""A call: the tokens of a body, an argument and an answer, on a branch of its own that leaves nothing behind."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Generation, untold
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.functions.body import Body
from sessiond.daemon.sessions.branch import Branch
from sessiond.daemon.sessions.failures import in_words
from sessiond.daemon.sessions.statuses import Chunk, Summary, Timings
from sessiond.v1.errors import ContextOverflow


async def call(
    name: str, body: Body, argument: Sequence[int], timings: Timings
) -> AsyncGenerator[Chunk, None]:
    """The answer to an argument that fits, after a body that is hot; the last chunk has the summary.

    One job of the engine does it all, so that no token is computed twice. Raises EngineDied in mid-answer, and as a session's
    turn.
    """
    target = [*body.tokens, *argument, *body.closing]
    asked = body.decoding.drawn()
    sampling, room = asked.sampling, body.num_ctx - len(target)
    if sampling.repeat_last_n < 0:
        sampling = replace(sampling, repeat_last_n=body.num_ctx)
    wish = Generation(sampling, asked.max_tokens or room, asked.stop, guesses=asked.guesses)
    branch = Branch(body.home, f"call-{secrets.token_hex(8)}", keeps=len(body.tokens))
    try:
        async with branch.turn():
            jobs = branch.generate(target, wish, untold, lambda _held: None, timings.patience)
            async with contextlib.aclosing(jobs) as pieces:
                async for piece in pieces:
                    assert not isinstance(piece, wire.Reached), "it has no legs"
                    yield _chunk(piece, sampling.seed, timings)
    except EngineFailed as failed:
        overflow = ContextOverflow("suffix", len(body.tokens), len(target) - len(body.tokens), body.num_ctx)
        raise in_words(failed, name, body.seat.facts.backend, lambda: overflow) from failed
    finally:
        await body.leave(branch)


def _chunk(piece: wire.Piece | wire.Generated, seed: int, timings: Timings) -> Chunk:
    if isinstance(piece, wire.Generated):
        timings.queue_ms += piece.queue_ms
        timings.decode_ms += piece.decode_ms
        return Chunk("", (), Summary.of(piece, seed))
    timings.first_token_ms = timings.first_token_ms or timings.since_arrival()
    return Chunk(piece.text, tuple(piece.tokens), scores=tuple(piece.scores))
