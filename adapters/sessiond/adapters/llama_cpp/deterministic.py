"""A context whose logits depend on its tokens alone, bit for bit, whatever happened before.

What llama.cpp computes on a CPU depends a little on the shape of the work: flash attention takes three different
paths by the number of rows, a matrix product with one row is another kernel than one with many, and cells of
others between a branch's own change the order of a sum. So here

- flash attention is off, unless the cells are quantized;
- one sequence holds all, so that position p is always in cell p;
- no micro-batch is narrower than a width from which on rows do not notice each other: it is filled up with rows
  of a second sequence that is dropped at once.

The width is found by trial when the first such context of a model is made, on the machine and build at hand. If no
width will do, the context is refused: nothing is promised that was not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sessiond.adapters.base import NoRoom, Run, SettingsError
from sessiond.adapters.llama_cpp.context import LlamaContext
from sessiond.adapters.llama_cpp.shape import KvShape

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_TRIAL = 300
"""Tokens of the trial: more than the 256 cells by which llama.cpp grows its attention."""
_TRIAL_SINGLES = 12


class DeterministicContext(LlamaContext):
    """See the module."""

    spare = WIDTHS[-1]
    row_width = 1
    """Rows of a micro-batch are a multiple of this."""

    def _most_sequences(self, shape: KvShape) -> int:
        return 1

    def decode(self, runs: Sequence[Run]) -> None:
        """See `KvContext.decode`: one micro-batch after the other, each filled up."""
        self._check(runs)
        [run] = runs
        if run.position + len(run.tokens) > self.cells:  # the spare cells are not for it
            raise NoRoom(f"no cells for {len(run.tokens)} more tokens")
        grain = max(self.row_width, self.settings.num_ubatch // self.row_width * self.row_width)
        for start in range(0, len(run.tokens), grain):
            tokens = run.tokens[start : start + grain]
            last = start + len(tokens) == len(run.tokens)
            piece = Run(run.sequence, run.position + start, tokens, run.want_logits and last)
            missing = -len(tokens) % self.row_width
            if not missing:
                self._compute([piece])
                continue
            try:
                self._compute([piece, Run(self._scratch, 0, [tokens[0]] * missing)])
            finally:
                self._sequences.remove(self._scratch)


def find_row_width(make: Callable[[int], DeterministicContext], vocab_size: int) -> int:
    """The narrowest width at which chunks and single tokens give the logits of one big batch.

    `make` gives a small context with a given width. Raises SettingsError if there is none.
    """
    # Any tokens will do, as long as they differ.
    tokens = [(index * 7919 + 13) % vocab_size for index in range(_TRIAL)]
    whole = _trial(make, WIDTHS[-1], tokens, [_TRIAL])
    singles = [_TRIAL - _TRIAL_SINGLES] + [1] * _TRIAL_SINGLES
    for width in WIDTHS:
        odd = [101, 7, _TRIAL - 108]
        if all(_trial(make, width, tokens, chunks) == whole for chunks in (singles, odd)):
            return width
    raise SettingsError("deterministic", "this build's results depend on the shape of a batch")


def _trial(
    make: Callable[[int], DeterministicContext], width: int, tokens: Sequence[int], chunks: Sequence[int]
) -> bytes:
    context = make(width)
    try:
        at = 0
        for size in chunks:
            context.decode([Run(0, at, tokens[at : at + size], want_logits=True)])
            at += size
        return context.logits(0)
    finally:
        context.close()
