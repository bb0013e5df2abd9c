"""Returning to where a sequence once ended, in models that cannot cut it.

Cells can be cut anywhere. A recurrent state cannot: it is the sum of all tokens. A sliding window forgets what left
it, and llama.cpp gives the cells of that to others. So a checkpoint is that part of the state, as it was; the cells
below it are still there. llama.cpp's `truncate` says yes to a cut that leaves a window incomplete: it is asked what
positions the window has.
"""

from __future__ import annotations

from sessiond.adapters.base import BackendError, NoRoom
from sessiond.adapters.llama_cpp.sequences import Sequences
from sessiond.adapters.llama_cpp.shape import KvShape
from sessiond.adapters.llama_cpp.state import check_partial


def cut_copy(
    sequences: Sequences, shape: KvShape, source: int, target: int, end: int, checkpoint: bytes
) -> bool:
    """Let the empty `target` hold what `source` held when it ended at `end`. If that cannot be told for certain,
    False: then the target is empty. Raises NoRoom.
    """
    sequences.copy(source, target, 0, end)
    if not shape.recurrent and _window_is_whole(sequences, shape, target, end):
        return True
    try:
        if shape.layout is None:
            raise BackendError("states of this model cannot be read")
        check_partial(checkpoint, shape.layout, end, shape.window)
        sequences.load(target, checkpoint, partial=True)
        if sequences.end(target) != end or not (
            shape.recurrent or _window_is_whole(sequences, shape, target, end)
        ):
            raise BackendError(f"the checkpoint does not end at {end}")
    except NoRoom:
        sequences.remove(target)
        raise
    except BackendError:
        sequences.remove(target)
        return False
    return True


def _window_is_whole(sequences: Sequences, shape: KvShape, sequence: int, end: int) -> bool:
    """Whether all is there that the next token of the sequence will look at. llama.cpp keeps a window without gaps."""
    return sequences.end(sequence) == end and sequences.first(sequence) <= max(0, end - shape.window + 1)
