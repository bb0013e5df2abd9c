"""A state without its first positions, for a sequence that has these already.

They are taken out of the bytes, before llama.cpp sees them. Were the whole state loaded and its beginning dropped, there would
have to be cells for all of it, and those in use would have a gap before them: where sums must not depend on where cells stand
(`ordered`), or position p belongs in cell p (`padded`), that would change answers.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

from sessiond.adapters.base import BackendError
from sessiond.adapters.llama_cpp.state import Layout
from sessiond.adapters.llama_cpp.state_walk import Walk

_Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


def state_from(state: bytes, layout: Layout, position: int) -> bytes:
    """What a state says of its positions from this one on. Only of cells, and after `check_state` found nothing wrong.

    Raises BackendError for a layout with other parts, which no position can be taken out of.
    """
    if layout.attention != 1 or layout.recurrent:
        raise BackendError("no position can be taken out of a state of this model")
    walk = Walk(state)
    head = walk.take(12)  # magic, sequence, streams
    count = walk.number("I")
    cells = np.frombuffer(walk.take(count * layout.cell_size), np.int32).reshape(count, -1)
    kept = cells[:, 0] >= position
    found = [bytes(head), _number(int(kept.sum())), cells[kept].tobytes(), bytes(walk.take(8))]
    transposed, layers = np.frombuffer(found[-1], np.uint32)
    for _ in range(layers):
        found += _rows(walk, kept)
    if layout.has_values:
        for _ in range(layers):
            found += _columns(walk, kept) if transposed else _rows(walk, kept)
    walk.finish()
    return b"".join(found)


def _rows(walk: Walk, kept: _Mask) -> list[bytes]:
    """A layer of one row for each cell."""
    head = bytes(walk.take(12))  # type, size of a row
    size = int.from_bytes(head[4:], sys.byteorder)
    rows = np.frombuffer(walk.take(len(kept) * size), np.uint8).reshape(len(kept), size)
    return [head, rows[kept].tobytes()]


def _columns(walk: Walk, kept: _Mask) -> list[bytes]:
    """A layer that stands transposed."""
    head = bytes(walk.take(12))  # type, size of a number, numbers of a cell
    size, numbers = int.from_bytes(head[4:8], sys.byteorder), int.from_bytes(head[8:], sys.byteorder)
    data = np.frombuffer(walk.take(len(kept) * numbers * size), np.uint8)
    return [head, data.reshape(numbers, len(kept), size)[:, kept].tobytes()]


def _number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)
