"""A snapshot as bytes, as docs/snapshot-format.md specifies it.

A file is untrusted: every length is held against a limit and against the bytes that are there before anything is
allocated, each part is under a checksum that takes in the one before, and what is wrong is `Damaged` with its reason.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from sessiond.daemon.engine.disk.format import DIGEST_BYTES, Damaged
from sessiond.daemon.engine.disk.keys import STEP, TOKEN_BYTES, pack_fields, unpack_fields
from sessiond.daemon.sessions.segments import MAX_SEGMENTS
from sessiond.daemon.sessions.suffix import MAX_ROLES, STANDING_ROLES
from sessiond.daemon.workspace.segment import LeftOut, Segment

MAGIC = b"\x89SKS\r\n\x1a\n"
"""As PNG's: shows files that were taken for text on their way."""
END = b"SKS\nEND\n"
VERSION = 1
PLAIN = 0
"""The only codec: KV stands as the backend gave it."""
MAX_HEADER = 64 << 20
"""Bytes. The texts of a prefix that fills a window of a million tokens take a tenth of it."""
MAX_LEFT_OUT = 1 << 16
MAX_PIECE = 32 << 20
"""Bytes of a piece's payload. More never stands in memory at once."""
PIECE_BYTES = 4 << 20
"""Of KV in a piece, about: what stands in memory of it, and what others wait for, some milliseconds."""
NOBODY = bytes(32)
"""Stands where a seal would, in a file for which nobody answers."""

HEAD = struct.Struct("<8sHHI")
PIECE = struct.Struct("<III")
TRAILER_BYTES = len(NOBODY) + DIGEST_BYTES + len(END)
_COUNT = struct.Struct("<I")
_TOKENS = struct.Struct(f"<{DIGEST_BYTES}sII")


@dataclass(frozen=True, slots=True)
class Header:
    """What a session is, but for its KV."""

    identity: dict[str, str]
    """What its KV is bound to, by name."""
    manifest_digest: bytes
    prefix_tokens: int
    """How many of the tokens are the prefix's."""
    tokens: bytes
    """All of them, as `keys.pack` writes them."""
    roles: tuple[str, ...]
    segments: tuple[Segment, ...]
    """Of the prefix, without its frame."""
    left_out: tuple[LeftOut, ...]

    @property
    def count(self) -> int:
        """All tokens."""
        return len(self.tokens) // TOKEN_BYTES


def front(header: Header) -> bytes:
    """What stands before the pieces; its last 32 bytes are its checksum. Raises ValueError for what no file may hold."""
    body = _pack(header)
    counts = (
        (len(body), MAX_HEADER),
        (len(header.segments), MAX_SEGMENTS),
        (len(header.left_out), MAX_LEFT_OUT),
        (len(header.roles), MAX_ROLES),
    )
    if any(count > most for count, most in counts):
        raise ValueError("it is larger than a snapshot may be")
    told = HEAD.pack(MAGIC, VERSION, PLAIN, len(body)) + body
    return told + hashlib.sha256(told).digest()


def piece(before: bytes, start: int, count: int, payload: bytes) -> tuple[bytes, bytes]:
    """What stands before a payload, and the checksum behind it. `before` is the checksum that stands before the piece.
    Raises ValueError for a payload that is too large.
    """
    if not 0 < len(payload) <= MAX_PIECE:
        raise ValueError(f"a piece of {len(payload)} bytes")
    head = PIECE.pack(start, count, len(payload))
    return head, chained(before, head, payload)


def step(cell_bytes: int) -> int:
    """Tokens in a piece that is not the last one, as they are written; KV takes so many bytes a token."""
    return max(1, min(STEP, PIECE_BYTES // max(1, cell_bytes)))


def least_count(cell_bytes: int) -> int:
    """Tokens that such a piece has at least, as they are read: each is loaded by a job that carries all tokens before it, so
    pieces of one token would take time with the square of their number.
    """
    return (step(cell_bytes) + 1) // 2


def most_payload(count: int, cell_bytes: int) -> int:
    """Bytes that the KV of so many tokens may take: twice what it should, and what backends put before it."""
    return min(MAX_PIECE, 2 * count * cell_bytes + (1 << 20))


def trailer(before: bytes, seal: bytes) -> bytes:
    """What stands behind the pieces."""
    return seal + chained(before, seal) + END


def chained(before: bytes, *parts: bytes) -> bytes:
    """The checksum of a part of the file: that before it is taken in, so that the last one is over the whole file."""
    digest = hashlib.sha256(before)
    for part in parts:
        digest.update(part)
    return digest.digest()


def header_bytes(head: bytes) -> int:
    """The length of the header behind this head. Raises Damaged."""
    magic, version, codec, size = HEAD.unpack(head)
    if magic != MAGIC:
        raise Damaged("it is not a snapshot")
    if (version, codec) != (VERSION, PLAIN):
        raise Damaged(f"version {version} with codec {codec} is not known")
    if size > MAX_HEADER:
        raise Damaged("its header is too long")
    return int(size)


def parse(body: bytes) -> Header:
    """The parts of a header whose checksum is right: a file that was made on purpose may still be wrong in itself.
    Raises Damaged.
    """
    cursor = _Cursor(body)
    try:
        header = _unpacked(cursor)
    except (ValueError, IndexError) as error:
        raise Damaged("its header cannot be read") from error
    if cursor.at != len(body):
        raise Damaged("its header has more than it should")
    if header.prefix_tokens > header.count:
        raise Damaged("its prefix is longer than all of it")
    return header


def _pack(header: Header) -> bytes:
    fields = pack_fields(header.identity)
    parts = [_COUNT.pack(len(fields)), fields]
    parts += [_TOKENS.pack(header.manifest_digest, header.prefix_tokens, header.count), header.tokens]
    parts += [_COUNT.pack(len(header.roles)), bytes(map(STANDING_ROLES.index, header.roles))]
    parts.append(_COUNT.pack(len(header.segments)))
    for segment in header.segments:
        parts.append(bytes([segment.stable]))
        parts += _texts(segment.id, segment.kind, segment.path, segment.cache_class, segment.text)
    parts.append(_COUNT.pack(len(header.left_out)))
    for left in header.left_out:
        parts += _texts(left.path, left.reason, left.detail)
    return b"".join(parts)


def _texts(*texts: str) -> list[bytes]:
    if any("\0" in text for text in texts):
        raise ValueError("a text with a NUL byte")
    return [part for text in texts for data in (text.encode(),) for part in (_COUNT.pack(len(data)), data)]


def _unpacked(cursor: _Cursor) -> Header:
    identity = unpack_fields(cursor.take(cursor.count(MAX_HEADER)))
    digest, prefix, count = _TOKENS.unpack(cursor.take(_TOKENS.size))
    tokens = cursor.take(count * TOKEN_BYTES)
    roles = tuple(STANDING_ROLES[number] for number in cursor.take(cursor.count(MAX_ROLES)))
    segments = tuple(_segment(cursor) for _ in range(cursor.count(MAX_SEGMENTS)))
    left_out = tuple(
        LeftOut(cursor.text(), cursor.text(), cursor.text()) for _ in range(cursor.count(MAX_LEFT_OUT))
    )
    return Header(identity, digest, prefix, tokens, roles, segments, left_out)


def _segment(cursor: _Cursor) -> Segment:
    [stable] = cursor.take(1)
    if stable > 1:
        raise ValueError("neither stable nor not")
    segment_id, kind, path, cache_class, text = (cursor.text() for _ in range(5))
    return Segment(segment_id, kind, text, path, bool(stable), cache_class)


class _Cursor:
    """Goes through bytes, and never past their end. Raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise ValueError("it ends too early")
        start, self.at = self.at, end
        return self._data[start:end]

    def count(self, most: int) -> int:
        (count,) = _COUNT.unpack(self.take(_COUNT.size))
        if count > most:
            raise ValueError(f"{count} are more than {most}")
        return int(count)

    def text(self) -> str:
        text = self.take(self.count(MAX_HEADER)).decode()
        if "\0" in text:
            raise ValueError("a text with a NUL byte")
        return text
