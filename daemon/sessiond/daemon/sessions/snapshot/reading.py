"""A snapshot that is read: first whole, piece by piece, to know that it is sound and whose it is; then its KV once more,
each piece held against the checksum that it had.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.engine.disk.format import DIGEST_BYTES, Damaged
from sessiond.daemon.sessions.snapshot import format as form


@dataclass(frozen=True, slots=True)
class Piece:
    """The KV of a run of tokens, as it stands in the file."""

    start: int
    end: int
    offset: int
    """Of its payload."""
    size: int
    head: bytes
    before: bytes
    """The checksum before it."""
    checksum: bytes


class Reading:
    """One file, from its front to its end. `close` must follow in any case. Its methods raise OSError and Damaged, and block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._size = self._at = 0
        self.checksum = b""
        """Of all that was read so far."""

    def open(self) -> None:
        """Begin. A link is not followed, and a pipe not waited for."""
        self._file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        told = os.fstat(self._file)
        if not stat.S_ISREG(told.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        self._size = told.st_size

    def header(self) -> form.Header:
        """What stands first."""
        head = self._next(form.HEAD.size)
        body = self._next(form.header_bytes(head))
        self.checksum = form.chained(b"", head, body)
        if self._next(DIGEST_BYTES) != self.checksum:
            raise Damaged("the checksum of its header is wrong")
        return form.parse(body)

    def piece(self, start: int, end: int, cell_bytes: int) -> Piece:
        """The next piece, which begins at `start` and reaches no further than `end`; KV takes so many bytes a token."""
        head = self._next(form.PIECE.size)
        at, count, size = form.PIECE.unpack(head)
        if at != start or not 0 < count <= end - start:
            raise Damaged("its pieces do not follow each other")
        if count < form.least_count(cell_bytes) and count < end - start:
            raise Damaged("a piece has too few tokens")
        if not 0 < size <= form.most_payload(count, cell_bytes):
            raise Damaged("a piece is too large for its tokens")
        offset, before = self._at, self.checksum
        self.checksum = form.chained(before, head, self._next(size))
        if self._next(DIGEST_BYTES) != self.checksum:
            raise Damaged("the checksum of a piece is wrong")
        return Piece(start, start + count, offset, size, head, before, self.checksum)

    def seal(self) -> bytes:
        """What stands behind the pieces, to the end of the file. `checksum` stays that of the pieces, which it is over."""
        seal = self._next(len(form.NOBODY))
        if self._next(form.TRAILER_BYTES - len(seal)) != form.trailer(self.checksum, seal)[len(seal) :]:
            raise Damaged("its end is not what it should be")
        if self._at != self._size:
            raise Damaged("it goes on behind its end")
        return seal

    def payload(self, piece: Piece) -> bytes:
        """The KV of a piece that was read before. Raises Damaged if it is another one now."""
        payload = self._bytes(piece.offset, piece.size)
        if form.chained(piece.before, piece.head, payload) != piece.checksum:
            raise Damaged("it was changed while it was read")
        return payload

    def close(self) -> None:
        """Let go of the file. Twice is once."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _next(self, size: int) -> bytes:
        if self._at + size > self._size:
            raise Damaged("it ends too early")
        data = self._bytes(self._at, size)
        self._at += size
        return data

    def _bytes(self, offset: int, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            read = os.pread(self._file, size, offset)
            if not read:
                raise Damaged("it was cut while it was read")
            pieces.append(read)
            offset, size = offset + len(read), size - len(read)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
