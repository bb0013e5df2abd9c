"""A trial of whether a kind of context is deterministic on this machine and build.

One history has everything at once that is known to change how llama.cpp rounds: single tokens, odd chunks, several
sequences in one batch, cells of another branch in between, a sequence that is loaded, cells that move, and more
tokens than the 512 cells from which on its flash attention splits them. What it leaves must be, bit for bit, what
one prefill in full micro-batches leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessiond.adapters.base import BackendError, Run
from sessiond.adapters.llama_cpp.padded import PaddedContext, SharedContext

WIDTHS = (1, 2, 4, 8, 16, 32, 64)

CELLS = 1024
"""Of each context of the trial."""
_HEADS = (133, 200)
"""Tokens whose KV is compared: most of what fails is seen at the first of them, which spares the rest."""
_LOADED = 520
"""Tokens that the second half of the history begins with."""
_WHOLE = 9 * WIDTHS[-1]
"""Tokens after which the logits are compared."""
_CHUNKS = [101, 7, 17]
"""How a part begins; its other tokens come one by one. Kernels for one row and for many may differ in few numbers
only, so there are dozens.
"""


@dataclass(frozen=True)
class _Expected:
    """What one prefill leaves."""

    heads: dict[int, bytes]
    loaded: bytes
    logits: bytes


def find_row_width(make: Callable[[int], PaddedContext], vocab_size: int) -> int | None:
    """The narrowest width at which the history leaves what one prefill does; None if there is none.

    `make` gives a context of `CELLS` cells with a given width.
    """
    # Any tokens will do, as long as they differ.
    tokens = [(index * 7919 + 13) % vocab_size for index in range(_WHOLE)]
    try:
        expected = _prefill(make(WIDTHS[-1]), tokens)
    except BackendError:  # this build cannot run such a context at all
        return None
    return next((width for width in WIDTHS if _passes(make(width), tokens, expected)), None)


def _prefill(context: PaddedContext, tokens: list[int]) -> _Expected:
    try:
        context.decode([Run(0, 0, tokens, want_logits=True)])
        logits = context.logits(0)
        states: dict[int, bytes] = {}
        for end in (_LOADED, *reversed(_HEADS)):
            context.truncate(0, end)
            states[end] = context.save(0)
        return _Expected(states, states.pop(_LOADED), logits)
    finally:
        context.close()


def _passes(context: PaddedContext, tokens: list[int], expected: _Expected) -> bool:
    try:
        if isinstance(context, SharedContext):
            return _passes_shared(context, tokens, expected)
        if not _grows_alike(context, tokens, expected):
            return False
        context.drop(0)
        context.load(0, expected.loaded)
        return _append(context, 0, tokens, _CHUNKS[-1:]) == expected.logits
    finally:
        context.close()


def _passes_shared(context: SharedContext, tokens: list[int], expected: _Expected) -> bool:
    other = tokens[::-1]
    _append(context, 1, other[:40], [40])
    if not _grows_alike(context, tokens, expected, beside=1):
        return False
    context.load(2, expected.loaded)
    context.drop(1)
    context.sweep()
    _append(context, 2, tokens[:-1], _CHUNKS[-1:], beside=0)
    # The last token alone, and with others that want their logits too: these are rows of a matrix product as well.
    context.share(2, 3, len(tokens) - 1)
    alone = _append(context, 2, tokens, [])
    runs = [(3, tokens[-1]), (0, other[0]), (2, other[1])]
    context.decode([Run(sequence, context.end(sequence), [token], True) for sequence, token in runs])
    return alone == context.logits(0) == expected.logits


def _grows_alike(
    context: PaddedContext, tokens: list[int], expected: _Expected, beside: int | None = None
) -> bool:
    chunks = _CHUNKS
    for end in _HEADS:
        _append(context, 0, tokens[:end], chunks, beside)
        if context.save(0) != expected.heads[end]:
            return False
        chunks = []
    return True


def _append(
    context: PaddedContext, sequence: int, tokens: list[int], chunks: list[int], beside: int | None = None
) -> bytes:
    """Append what is missing of the tokens, in these chunks and then one by one; the logits after the last one.

    In every other batch the sequence `beside` gets a token of its own.
    """
    start = context.end(sequence)
    singles = len(tokens) - start - sum(chunks)
    for index, size in enumerate([*chunks, *[1] * singles]):
        runs = [Run(sequence, start, tokens[start : start + size], want_logits=True)]
        if beside is not None and index % 2:
            runs.append(Run(beside, context.end(beside), [tokens[index]]))
        context.decode(runs)
        start += size
    return context.logits(0)
