"""Answers of a model that has to follow a grammar: pushed towards what closes, or few would ever end."""

from __future__ import annotations

from sessiond.adapters.base import KvContext, Model, Run, Sampling

_CLOSING = frozenset(b'"}]')
_PUSH = 4.0


def closing(model: Model) -> tuple[tuple[int, float], ...]:
    """A bias towards the tokens that end texts, lists and objects, and nothing else."""
    pieces = model.pieces(range(model.facts.vocab.size))
    return tuple((token, _PUSH) for token, piece in enumerate(pieces) if piece and _CLOSING.issuperset(piece))


def answer(model: Model, context: KvContext, sampling: Sampling, most: int) -> str | None:
    """What the model says after nothing but the context's sequence 0; None if it came to no end within `most` tokens."""
    sampler = model.new_sampler(sampling)
    said = b""
    try:
        for _ in range(most):
            token = context.sample(0, sampler)
            if token in model.facts.vocab.end_tokens:
                return said.decode()
            said += model.pieces([token])[0]
            if sampler.ended:
                return said.decode()
            context.decode([Run(0, context.end(0), [token], want_logits=True)])
    finally:
        sampler.close()
    return None
