"""Snapshots that tests make by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sessiond.daemon.engine.disk.keys import pack
from sessiond.daemon.sessions.snapshot import format as form
from sessiond.daemon.sessions.snapshot.reading import Piece, Reading
from sessiond.daemon.workspace.segment import LeftOut, Segment

CELL_BYTES = form.PIECE_BYTES // 2
"""So large that a piece may have a single token."""

HEADER = form.Header(
    identity={"backend": "b", "num_cells": "64"},
    manifest_digest=b"m" * 32,
    prefix_tokens=2,
    tokens=pack([7, 8, 9]),
    roles=("system", "user"),
    segments=(Segment("a", "file", "é", "a.py", stable=False, cache_class="c"), Segment("b", "text", "")),
    left_out=(LeftOut("x.bin", "binary", "it is no text"),),
)


def whole(
    header: form.Header = HEADER,
    pieces: Sequence[tuple[int, int, bytes]] = ((0, 2, b"12"), (2, 1, b"3")),
    seal: bytes = form.NOBODY,
) -> bytes:
    """A file of these pieces: start, tokens, payload."""
    made = form.front(header)
    checksum = made[-32:]
    for start, count, payload in pieces:
        head, checksum = form.piece(checksum, start, count, payload)
        made += head + payload + checksum
    return made + form.trailer(checksum, seal)


def read(path: Path, cell_bytes: int = CELL_BYTES) -> tuple[form.Header, list[Piece], bytes]:
    """All that stands in a file. Raises Damaged, OSError."""
    reading = Reading(path)
    try:
        reading.open()
        header = reading.header()
        pieces: list[Piece] = []
        at = 0
        while at < header.count:
            pieces.append(reading.piece(at, header.count, cell_bytes))
            at = pieces[-1].end
        return header, pieces, reading.seal()
    finally:
        reading.close()
