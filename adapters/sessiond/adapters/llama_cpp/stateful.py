"""Contexts of models with a recurrent state.

Such a state is written over with each micro-batch. If one is aborted half way, the state is neither the one before
nor the one after, and llama.cpp says that it stands behind tokens which it has not seen. So a long run starts from a
copy: the copy shares the state until the run writes its own, and takes its place again after an abort. There is one
sequence to hold such a copy, so batches of several sequences are aborted before they begin, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from sessiond.adapters.base import Aborted, Run
from sessiond.adapters.llama_cpp.context import LlamaContext


class StatefulContext(LlamaContext):
    """See the module. After an abort, a run of this context has computed nothing."""

    aborts_by_itself = False

    def _compute(self, runs: Sequence[Run]) -> None:
        if self._flag.is_set:
            raise Aborted("the decode was not begun")
        # A single token is over soon; a copy would cost llama.cpp a new graph for each.
        if len(runs) != 1 or len(runs[0].tokens) == 1:
            super()._compute(runs)
            return
        sequence = runs[0].sequence
        self._sequences.copy(sequence, self._scratch)
        self._listen_to(self._flag)
        try:
            super()._compute(runs)
        except Aborted:
            self._sequences.remove(sequence)
            self._sequences.copy(self._scratch, sequence)
            raise
        finally:
            self._listen_to(None)
            self._sequences.remove(self._scratch)
