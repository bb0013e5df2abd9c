"""The cells of a context, and their form in bytes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sessiond.adapters.base import BackendError
from sessiond.adapters.scripted import answers, vocab

CELL_BYTES = 4 + answers.STATE_BYTES
_SAVED = b"scripted-kv 2\n\0\0"
_MARKED = b"scripted-at 1\n\0\0"
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


def pack(root: bytes, cells: Sequence[Cell], start: int) -> bytes:
    """These cells of a model with that root state, the first of them at position `start`, as bytes."""
    body = b"".join(cell.token.to_bytes(4, "little") + cell.state for cell in cells)
    return _seal(_SAVED, root + struct.pack("<II", start, len(cells)) + body)


def unpack(root: bytes, data: bytes, sequence: int, start: int) -> list[Cell]:
    """New cells from `pack`'s bytes, held by one sequence. Their states are as they were saved, so under another
    prefix they answer wrongly. Raises BackendError unless they are whole, of the same model and from `start` on.
    """
    text = _open(_SAVED, root, data)
    if len(text) < 8:
        raise BackendError("scripted: the saved state has no head")
    at, count = struct.unpack_from("<II", text)
    if at != start:
        raise BackendError(f"scripted: the saved state begins at position {at}, not at {start}")
    body = text[8:]
    if len(body) != count * CELL_BYTES:
        raise BackendError("scripted: the saved state has the wrong length")
    cells: list[Cell] = []
    for index in range(count):
        record = body[index * CELL_BYTES : (index + 1) * CELL_BYTES]
        cells.append(Cell(int.from_bytes(record[:4], "little"), start + index, 1 << sequence, record[4:]))
    vocab.check([cell.token for cell in cells])
    return cells


def mark(root: bytes, end: int, state: bytes) -> bytes:
    """A checkpoint: where a sequence ended, and the state there, which stands for its tokens."""
    return _seal(_MARKED, root + struct.pack("<I", end) + state)


def marked(root: bytes, checkpoint: bytes) -> tuple[int, bytes]:
    """What `mark` was told. Raises BackendError for other bytes and for those of another model."""
    text = _open(_MARKED, root, checkpoint)
    if len(text) != 4 + answers.STATE_BYTES:
        raise BackendError("scripted: the checkpoint has the wrong length")
    return int.from_bytes(text[:4], "little"), text[4:]


def _seal(kind: bytes, text: bytes) -> bytes:
    whole = kind + text
    return whole + hashlib.blake2b(whole, digest_size=_CHECK_BYTES).digest()


def _open(kind: bytes, root: bytes, data: bytes) -> bytes:
    """The text behind the root state. Raises BackendError."""
    whole, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if not whole.startswith(kind) or hashlib.blake2b(whole, digest_size=_CHECK_BYTES).digest() != check:
        raise BackendError("scripted: the bytes are damaged")
    text = whole[len(kind) :]
    if not text.startswith(root):
        raise BackendError("scripted: the bytes are another model's")
    return text[len(root) :]
