"""The tokens of one choice and their logits, as llama.cpp's samplers take them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sessiond.adapters.base.grammar import GrammarError
from sessiond.adapters.llama_cpp.library import library

ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
"""llama_token_data."""


def apply(sampler: Any, rows: npt.NDArray[np.void]) -> Any:
    """Have a sampler change these rows, of type ROW; its llama_token_data_array, valid as long as they are."""
    low = library()
    pointer_to: Any = ctypes.POINTER  # its types are not known before they are made
    first = ctypes.cast(rows.ctypes.data, pointer_to(low.llama_token_data))
    array = low.llama_token_data_array(data=first, size=rows.size, selected=-1, sorted=False)
    low.llama_sampler_apply(sampler, ctypes.byref(array))
    return array


class Candidates:
    """All tokens, by the logits after one run."""

    def __init__(self, logits: bytes) -> None:
        self._logits = np.frombuffer(logits, np.float32)

    def draw(self, chain: Any, out: Sequence[int], only: Sequence[int] | None) -> int:
        """The chain's choice among all tokens, or among `only`, without those that are `out`. The chain does not remember it.

        Raises GrammarError if there is none whose logit is above minus infinity.
        """
        tokens = np.arange(self._logits.size) if only is None else np.asarray(only)
        if out:
            tokens = np.delete(tokens, out)  # of all tokens, each stands at its id
        rows = np.zeros(tokens.size, ROW)
        rows["id"] = tokens
        rows["logit"] = self._logits[tokens]
        array = apply(chain, rows)
        chosen = array.data[array.selected] if 0 <= array.selected < array.size else None
        if chosen is None or chosen.logit == -np.inf:
            raise GrammarError("allows only tokens here that logit_bias forbids")
        return int(chosen.id)
