"""What an entry is found by: a hash of every token from the root to a position, under the salt of its space.

The key of a position is SHA-256 over the space's salt and all tokens before it. So it can be had for any position,
wherever the tree or the disk cut the tokens, and two branches have equal keys exactly as far as their tokens are equal.

Where to cut: at multiples of STEP from the root, and where the disk's cover of a branch ends. Cutting by content, with a
rolling hash, would gain nothing: KV depends on all tokens before it, so entries can be shared only in the common
beginning of two branches, and there equal positions have equal content. A new branch begins a new entry at the very
token where it leaves the old ones, which stay as they are; so nothing is written twice.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEY_BYTES = 32
TOKEN_BYTES = 4
STEP = 256
"""Tokens between two fixed cuts: 6 MB with SmolLM2, 32 MB with a model of 128 KiB a token. A piece of that size is saved
in milliseconds, and a fault costs no more than one."""
LEAST = 16
"""Fewer tokens are no entry of their own, unless they fill a gap: they are computed sooner than a file is worth."""

MAX_FIELDS = 64
MAX_FIELD_BYTES = 4096
"""Of a name or a value."""

_SALT = b"sessiond kv salt 1\0"
_PAIR = struct.Struct("<HH")


@dataclass(frozen=True, slots=True)
class Space:
    """Whose KV it is: nothing of one space is found from another."""

    fields: bytes
    """The identity, every field by name, as `pack_fields` writes it."""
    salt: bytes
    """Of the identity, the workspace and the user."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the identity."""
        return hashlib.sha256(self.fields).digest()


def space(identity: Mapping[str, str], workspace: str, user: str) -> Space:
    """The space of a user's KV in a workspace. Raises ValueError for an identity that is too large."""
    fields = pack_fields(identity)
    digest = hashlib.sha256(_SALT)
    for part in (fields, workspace.encode(errors="surrogateescape"), user.encode(errors="surrogateescape")):
        digest.update(struct.pack("<I", len(part)))
        digest.update(part)
    return Space(fields, digest.digest())


def pack_fields(identity: Mapping[str, str]) -> bytes:
    """An identity as bytes: equal ones have equal bytes. Raises ValueError if it is too large."""
    pairs = sorted((name.encode(), value.encode()) for name, value in identity.items())
    if len(pairs) > MAX_FIELDS or any(len(part) > MAX_FIELD_BYTES for pair in pairs for part in pair):
        raise ValueError("an identity of too many or too long fields")
    packed = [_PAIR.pack(len(name), len(value)) + name + value for name, value in pairs]
    return struct.pack("<H", len(pairs)) + b"".join(packed)


def unpack_fields(data: bytes) -> dict[str, str]:
    """The identity that `pack_fields` wrote. Raises ValueError for anything else."""
    try:
        (count,) = struct.unpack_from("<H", data)
        at, found = 2, dict[str, str]()
        for _ in range(min(count, MAX_FIELDS)):
            name, value = _PAIR.unpack_from(data, at)
            middle = at + _PAIR.size + name
            found[data[at + _PAIR.size : middle].decode()] = data[middle : middle + value].decode()
            at = middle + value
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("no identity") from error
    if pack_fields(found) != data:
        raise ValueError("no identity")
    return found


def pack(tokens: Sequence[int]) -> bytes:
    """Tokens as little-endian 32-bit numbers. Raises ValueError for what is no token."""
    try:
        return struct.pack(f"<{len(tokens)}I", *tokens)
    except struct.error as error:
        raise ValueError("not tokens") from error


def unpack(packed: bytes) -> list[int]:
    """The tokens that `pack` took."""
    return list(struct.unpack(f"<{len(packed) // TOKEN_BYTES}I", packed))


def next_cut(start: int) -> int:
    """Where an entry that begins at `start` ends, if there are tokens enough: at the next multiple of STEP that makes it
    LEAST tokens long.
    """
    return ((start + LEAST - 1) // STEP + 1) * STEP


class Chain:
    """The keys along some tokens in one space. Cheapest when asked for rising positions. Raises ValueError for what are
    no tokens.
    """

    def __init__(self, where: Space, tokens: Sequence[int]) -> None:
        self.space = where
        self.packed = pack(tokens)
        self._at = 0
        self._hash = hashlib.sha256(where.salt)

    def __len__(self) -> int:
        return len(self.packed) // TOKEN_BYTES

    def key(self, position: int) -> bytes:
        """The key of what stands before `position`."""
        if position < self._at:
            self._at, self._hash = 0, hashlib.sha256(self.space.salt)
        self._hash.update(self.run(self._at, position))
        self._at = position
        return self._hash.digest()

    def run(self, start: int, end: int) -> bytes:
        """The tokens from `start` to `end`, packed."""
        return self.packed[start * TOKEN_BYTES : end * TOKEN_BYTES]
