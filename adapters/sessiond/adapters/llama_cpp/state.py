"""What llama.cpp's bytes of a sequence say of themselves, read before llama.cpp is given them.

Such bytes come from files. llama.cpp looks at the types and sizes in them, but takes any position and any number of
recurrent states: a negative position spoils the cells, and two states end the process. So a state is walked here
from its first byte to its last, and loaded only if it says what was expected.

The format differs with the kind of memory. Which of the known ones a model has is found by trial: the one that
explains a state of the model itself to its last byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from sessiond.adapters.base import BackendError
from sessiond.adapters.llama_cpp.state_walk import Walk

_MAGIC = 0xAF143CD8
_PLAIN_CELL = 12
"""Position, number of sequences, sequence."""
_LONG_CELL = 24
"""The same with two more positions and the token, which some models keep for each cell."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Of what parts a model's states are, in their order."""

    attention: int
    """Parts with cells for each token: two where a sliding window has its own."""
    recurrent: bool
    """Whether a part with one state for all tokens follows."""
    cell_size: int = _PLAIN_CELL
    has_values: bool = True
    """Whether the cells hold values beside keys."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a state."""

    positions: np.ndarray[Any, np.dtype[np.int32]]
    """In the order of the cells."""
    token_bytes: int
    """Bytes of KV for each token."""


_LAYOUTS = tuple(
    Layout(attention, recurrent, cell_size, has_values)
    for (attention, recurrent), cell_size, has_values in product(
        ((1, False), (2, False), (0, True), (1, True), (2, True)), (_PLAIN_CELL, _LONG_CELL), (True, False)
    )
)


def find_layout(state: bytes) -> Layout | None:
    """The layout that explains these bytes whole; None if no known one does."""
    for layout in _LAYOUTS:
        try:
            parts(state, layout)
        except BackendError:
            continue
        return layout
    return None


def parts(state: bytes, layout: Layout) -> list[Part]:
    """The parts of a state. Raises BackendError for bytes that are not exactly one state of that layout."""
    walk = Walk(state)
    if walk.number("I") != _MAGIC:
        raise BackendError("not the state of a sequence")
    walk.number("i")  # the sequence that was saved
    found = [_attention(walk, layout) for _ in range(layout.attention)]
    if layout.recurrent:
        found.append(_recurrent(walk))
    walk.finish()
    return found


def check_state(state: bytes, layout: Layout, start: int, *, window: int, ordered: bool) -> int:
    """Where a sequence ends that gets these positions from `start` on. Raises BackendError for any doubt.

    `window` is what the model's sliding windows see, or 0. `ordered` cells have to come in the order of positions.
    """
    found = parts(state, layout)
    positions = found[0].positions
    if not layout.attention:
        end = int(positions[0]) + 1 if len(positions) else 0
        _check_tail(positions, end, 1)
        return end
    end = start + len(positions)
    found_in_order = positions if ordered else np.sort(positions)
    if not np.array_equal(found_in_order, np.arange(start, end, dtype=np.int32)):
        raise BackendError(f"the state does not hold the positions from {start} on, each once")
    if layout.attention > 1:
        _check_tail(found[1].positions, end, window)
    if layout.recurrent:
        _check_tail(found[-1].positions, end, 1)
    return end


def check_partial(state: bytes, layout: Layout, end: int, window: int) -> None:
    """Raises BackendError unless this is the part that cannot be cut of a sequence that ends at `end`."""
    found = parts(
        state, Layout(max(0, layout.attention - 1), layout.recurrent, layout.cell_size, layout.has_values)
    )
    if layout.attention > 1:
        _check_tail(found[0].positions, end, window)
    if layout.recurrent:
        _check_tail(found[-1].positions, end, 1)


def _check_tail(positions: np.ndarray[Any, np.dtype[np.int32]], end: int, most: int) -> None:
    """Raises BackendError unless these are the last positions before `end`, at least one and at most `most`."""
    count = len(positions)
    if count > min(end, most) or (not count and end):
        raise BackendError(f"the state holds {count} positions before {end}")
    if not np.array_equal(np.sort(positions), np.arange(end - count, end, dtype=np.int32)):
        raise BackendError(f"the state does not hold the last positions before {end}")


def _attention(walk: Walk, layout: Layout) -> Part:
    if walk.number("I") != 1:
        raise BackendError("the state has more than one stream")
    count = walk.number("I")
    if not count:
        return Part(np.zeros(0, np.int32), 0)
    cells = np.frombuffer(walk.take(count * layout.cell_size), np.int32).reshape(count, -1)
    if (cells[:, 1] != 1).any():
        raise BackendError("a cell of the state is not of one sequence")
    transposed, layers = walk.number("I"), walk.number("I")
    token_bytes = sum(walk.rows(count) for _ in range(layers))
    if layout.has_values:
        token_bytes += sum(walk.columns(count) if transposed else walk.rows(count) for _ in range(layers))
    return Part(cells[:, 0], token_bytes)


def _recurrent(walk: Walk) -> Part:
    count = walk.number("I")
    if count > 1:
        raise BackendError("the state has more than one recurrent state")
    positions: list[int] = []
    for _ in range(count):
        positions.append(walk.number("i"))
        if walk.number("I"):
            raise BackendError("a recurrent state names sequences")
    transposed, _layers = walk.number("I"), walk.number("I")
    if transposed:
        raise BackendError("a recurrent state stands transposed")
    while not walk.done():  # not all layers are recurrent, and which ones are, the state does not say
        walk.rows(count)
    return Part(np.array(positions, np.int32), 0)
