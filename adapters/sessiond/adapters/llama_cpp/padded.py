"""Contexts whose logits depend on the tokens of a sequence alone, bit for bit, if `deterministic` found how.

A matrix product with one row may be another kernel than one with many. So each micro-batch is filled up to a
multiple of a width, from which on rows do not notice each other, with rows of a sequence that is dropped at once.
And the last layers, which are computed for those rows only whose logits are wanted, are computed for as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sessiond.adapters.base import ContextSettings, NoRoom, Run
from sessiond.adapters.llama_cpp.context import LlamaContext, Plan
from sessiond.adapters.llama_cpp.ordered import OrderedSequences
from sessiond.adapters.llama_cpp.sequences import Sequences
from sessiond.adapters.llama_cpp.shape import KvShape
from sessiond.adapters.llama_cpp.tuning import CACHE_TYPES

_BF16 = 30
"""Its number in ggml.h."""


class PaddedContext(LlamaContext):
    """See the module."""

    ordered = True
    rounding = 0.0
    max_branches: int | None = None
    """Sequences, if the kind allows for no more."""
    own_sequences = 1

    def __init__(
        self, model: Any, vocab_size: int, settings: ContextSettings, shape: KvShape, row_width: int
    ) -> None:
        plan = Plan(
            max_sequences=self.max_branches or shape.max_sequences,
            own_sequences=self.own_sequences,
            row_width=row_width,
            key_type=_key_type(settings),
        )
        super().__init__(model, vocab_size, settings, shape, plan)

    def _compute(self, runs: Sequence[Run]) -> None:
        missing = -sum(len(run.tokens) for run in runs) % self._plan.row_width
        if not missing:
            super()._compute(runs)
            return
        try:
            super()._compute([*runs, Run(self._scratch, 0, [runs[0].tokens[0]] * missing)])
        finally:
            self._rows = self._rows[: len(runs)]
            self._sequences.remove(self._scratch)


class SingleContext(PaddedContext):
    """One sequence, so that position p is always in cell p."""

    max_branches = 1

    def decode(self, runs: Sequence[Run]) -> None:
        """See `KvContext.decode`."""
        self._check(runs)
        if (
            runs[0].position + len(runs[0].tokens) > self.cells
        ):  # the cells beside these are for the other rows
            raise NoRoom(f"no cells for {len(runs[0].tokens)} more tokens")
        self._compute(runs)


class SharedContext(PaddedContext):
    """Many sequences with flash attention, which passes over cells of others and takes a sequence's own in order."""

    own_sequences = 2

    _sequences: OrderedSequences

    def _make_sequences(self, native: Any) -> Sequences:
        return OrderedSequences(native, self._scratch, waste=self._scratch + 1)

    def _compute(self, runs: Sequence[Run]) -> None:
        try:
            super()._compute(runs)
        except NoRoom:
            if not self._sequences.sweep():
                raise
            super()._compute(runs)

    def sweep(self) -> None:
        """Put the cells together now. Not part of the interface: it happens by itself when they are full."""
        self._sequences.sweep()


def _key_type(settings: ContextSettings) -> int | None:
    """With flash attention, keys of another type than the values: then llama.cpp takes the same path through its
    CPU code for every shape of a batch, and else one of three. Quantized cells take that path in any case.
    """
    plain = not CACHE_TYPES[settings.kv_cache_type].quantized
    return _BF16 if settings.flash_attn and plain else None
