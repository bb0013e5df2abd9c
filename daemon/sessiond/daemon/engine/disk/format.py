"""One entry as a file, as docs/disk-format.md specifies it byte by byte.

Entries are untrusted: every length is held against the file's size before anything is allocated, every byte is under a
checksum, and what is wrong is `Damaged` with its reason, never anything else.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass

from sessiond.daemon.engine.disk.keys import (
    KEY_BYTES,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    TOKEN_BYTES,
    unpack_fields,
)

MAGIC = b"\x89SKV\r\n\x1a\n"
"""As PNG's: shows files that were taken for text on their way."""
END = b"SKV\nEND\n"
VERSION = 1
PLAIN = 0
"""The only codec: the payload stands as the backend gave it."""
MAX_TOKENS = 1 << 16
MAX_START = (1 << 32) - 1
MAX_PAYLOAD = 2 << 30
"""Bytes."""
MAX_TOKEN_PAYLOAD = 4 << 20
"""Bytes for each token: no model is known that takes two thirds of it."""
DIGEST_BYTES = 32

_HEAD = struct.Struct("<8sHHIQ")
_FIXED = struct.Struct(f"<{DIGEST_BYTES}s{KEY_BYTES}s{KEY_BYTES}s{KEY_BYTES}sII")
_LENGTH = struct.Struct("<I")
TRAILER_BYTES = DIGEST_BYTES + len(END)
LEAST_HEADER = _FIXED.size + TOKEN_BYTES + _LENGTH.size + 2
MAX_HEADER = LEAST_HEADER + MAX_TOKENS * TOKEN_BYTES + MAX_FIELDS * (4 + 2 * MAX_FIELD_BYTES)


class Damaged(Exception):
    """A file is not the whole and sound entry that it should be, and why."""


@dataclass(frozen=True, slots=True)
class Label:
    """Which entry: what its KV belongs to, and where in the chain of tokens it stands."""

    salt: bytes
    parent: bytes
    """The key of what stands before its first token."""
    key: bytes
    """The key of what stands before its end."""
    start: int
    """Position of its first token."""
    tokens: bytes
    """As `keys.pack` writes them."""

    @property
    def count(self) -> int:
        """Its tokens."""
        return len(self.tokens) // TOKEN_BYTES

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + self.count

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.key[:20].hex()}-{self.start}"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself before its payload."""

    label: Label
    fields: bytes
    """The identity, as `keys.pack_fields` writes it."""
    payload_bytes: int
    payload_at: int
    """Offset in the file."""
    checksum: bytes


def encode(label: Label, fields: bytes, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """The bytes of a file in three pieces, the payload in the middle. Raises ValueError for what no file may hold."""
    if not 0 < label.count <= MAX_TOKENS or not 0 < len(payload) <= _most_payload(label.count):
        raise ValueError(f"{label.count} tokens in {len(payload)} bytes are no entry")
    if not 0 <= label.start <= MAX_START:
        raise ValueError(f"an entry cannot begin at {label.start}")
    fixed = _FIXED.pack(
        hashlib.sha256(fields).digest(), label.salt, label.parent, label.key, label.start, label.count
    )
    header = fixed + label.tokens + _LENGTH.pack(len(fields)) + fields
    front = _HEAD.pack(MAGIC, VERSION, PLAIN, len(header), len(payload)) + header
    checksum = hashlib.sha256(front).digest()
    return front + checksum, payload, _payload_checksum(checksum, payload) + END


def read_header(file: int) -> Header:
    """What the open file says of itself. The payload is not looked at. Raises Damaged, OSError."""
    size = os.fstat(file).st_size
    if size < _HEAD.size:
        raise Damaged("it ends before its head does")
    head = _read(file, _HEAD.size, 0)
    magic, version, codec, header_bytes, payload_bytes = _HEAD.unpack(head)
    if magic != MAGIC:
        raise Damaged("it is not an entry")
    if version != VERSION or codec != PLAIN:
        raise Damaged(f"version {version} with codec {codec} is not known")
    if not LEAST_HEADER <= header_bytes <= MAX_HEADER or not 0 < payload_bytes <= MAX_PAYLOAD:
        raise Damaged("its lengths are not those of an entry")
    payload_at = _HEAD.size + header_bytes + DIGEST_BYTES
    if payload_at + payload_bytes + TRAILER_BYTES != size:
        raise Damaged("its lengths do not add up to that of the file")
    body = _read(file, header_bytes + DIGEST_BYTES, _HEAD.size)
    header, checksum = body[:header_bytes], body[header_bytes:]
    if hashlib.sha256(head + header).digest() != checksum:
        raise Damaged("the checksum of its header is wrong")
    label, fields = _parse(header)
    if payload_bytes > _most_payload(label.count):
        raise Damaged("its payload is too large for its tokens")
    return Header(label, fields, payload_bytes, payload_at, checksum)


def read_payload(file: int, header: Header) -> bytes:
    """The payload behind a header that was read of the same file. Raises Damaged, OSError."""
    payload = _read(file, header.payload_bytes, header.payload_at)
    trailer = _read(file, TRAILER_BYTES, header.payload_at + header.payload_bytes)
    if trailer[DIGEST_BYTES:] != END:
        raise Damaged("its end is missing")
    if _payload_checksum(header.checksum, payload) != trailer[:DIGEST_BYTES]:
        raise Damaged("the checksum of its payload is wrong")
    return payload


def _parse(header: bytes) -> tuple[Label, bytes]:
    """The parts of a header whose checksum is right: a file that was made on purpose may still be wrong in itself."""
    digest, salt, parent, key, start, count = _FIXED.unpack_from(header)
    tokens_end = _FIXED.size + count * TOKEN_BYTES
    if not 0 < count <= MAX_TOKENS or tokens_end + _LENGTH.size > len(header):
        raise Damaged("its tokens do not fit into its header")
    (field_bytes,) = _LENGTH.unpack_from(header, tokens_end)
    fields = header[tokens_end + _LENGTH.size :]
    if field_bytes != len(fields) or hashlib.sha256(fields).digest() != digest:
        raise Damaged("its identity is not the one that it names")
    try:
        unpack_fields(fields)
    except ValueError as error:
        raise Damaged("its identity cannot be read") from error
    return Label(salt, parent, key, start, header[_FIXED.size : tokens_end]), fields


def _most_payload(count: int) -> int:
    return min(MAX_PAYLOAD, (count + 1) * MAX_TOKEN_PAYLOAD)


def _payload_checksum(header_checksum: bytes, payload: bytes) -> bytes:
    """Takes the header in, so that no payload stands behind another entry's header."""
    digest = hashlib.sha256(header_checksum)
    digest.update(payload)
    return digest.digest()


def _read(file: int, size: int, offset: int) -> bytes:
    """Exactly these bytes. Raises Damaged if the file ends before: it may have been cut since it was measured."""
    pieces: list[bytes] = []
    while size:
        piece = os.pread(file, size, offset)
        if not piece:
            raise Damaged("it ends too early")
        pieces.append(piece)
        size -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
