"""The cells of a context, and their form in bytes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sessiond.adapters.base import BackendError
from sessiond.adapters.scripted import answers, vocab

CELL_BYTES = 4 + answers.STATE_BYTES
_MAGIC = b"scripted-kv 1\n\0\0"
_CHECK_BYTES = 16


@dataclass(slots=True)
class Cell:
    """One token at one position. The state was computed from the cell before it, once, when it was decoded:
    logits come from it alone, so a cell under the wrong prefix answers wrongly.
    """

    token: int
    position: int
    sequences: int
    """Bit n is set while sequence n holds the cell; none of them: the cell is free."""
    state: bytes


def pack(root: bytes, cells: Sequence[Cell]) -> bytes:
    """These cells of a model with that root state, as bytes that stand alone."""
    body = b"".join(cell.token.to_bytes(4, "little") + cell.state for cell in cells)
    text = _MAGIC + root + struct.pack("<I", len(cells)) + body
    return text + hashlib.blake2b(text, digest_size=_CHECK_BYTES).digest()


def unpack(root: bytes, data: bytes, sequence: int) -> list[Cell]:
    """New cells from `pack`'s bytes, held by one sequence. Raises BackendError unless they are whole and of
    the same model.
    """
    text, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if not text.startswith(_MAGIC) or hashlib.blake2b(text, digest_size=_CHECK_BYTES).digest() != check:
        raise BackendError("scripted: the saved state is damaged")
    start = len(_MAGIC) + len(root)
    if text[len(_MAGIC) : start] != root:
        raise BackendError("scripted: the saved state is another model's")
    (count,) = struct.unpack_from("<I", text, start)
    body = text[start + 4 :]
    if len(body) != count * CELL_BYTES:
        raise BackendError("scripted: the saved state has the wrong length")
    cells: list[Cell] = []
    for position in range(count):
        record = body[position * CELL_BYTES : (position + 1) * CELL_BYTES]
        cells.append(Cell(int.from_bytes(record[:4], "little"), position, 1 << sequence, record[4:]))
    vocab.check([cell.token for cell in cells])
    return cells
