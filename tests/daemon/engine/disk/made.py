"""What the tests of the disk tier share: a space, tokens, and KV that depends on every token before its end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sessiond.daemon.engine.disk.catalogue import Found, Run
from sessiond.daemon.engine.disk.keys import Chain, Space, pack, space
from sessiond.daemon.engine.disk.sayings import Sayings
from sessiond.daemon.engine.disk.store import Store

IDENTITY = {"model_digest": "m" * 64, "backend": "scripted", "add_bos": "True"}
SPACE = space(IDENTITY, "/home/a/project", "1000")
ROOMY = 1 << 30
TOKEN_KV = 24
"""Bytes of KV for each token."""


def tokens(count: int, seed: int = 0) -> list[int]:
    """Tokens that differ from those of another seed, and hardly repeat."""
    wide = hashlib.shake_128(f"tokens {seed}".encode()).digest(2 * count)
    return [wide[2 * i] << 8 | wide[2 * i + 1] for i in range(count)]


def kv(where: Space, all_tokens: Sequence[int], start: int, end: int) -> bytes:
    """The KV of these positions: another one after any other tokens, and in any other space."""
    text = where.salt + pack(all_tokens[:end]) + start.to_bytes(4, "little")
    return hashlib.shake_128(text).digest(TOKEN_KV * (end - start))


class Place:
    """A store in a folder, and what it said."""

    def __init__(
        self, path: Path, limit: int = ROOMY, *, keep_free: int = 0, patience_s: float = 0.0
    ) -> None:
        self.path = path
        self.said: list[str] = []
        self.store = Store(
            path, limit, Sayings(self.said.append, 0.0), keep_free=keep_free, patience_s=patience_s
        )

    def missing(self, all_tokens: Sequence[int], where: Space = SPACE) -> list[Run]:
        """As the engine asks."""
        return self.store.catalogue.missing(Chain(where, all_tokens), len(all_tokens))

    def ahead(self, all_tokens: Sequence[int], where: Space = SPACE, at: int = 0) -> list[Found]:
        """As the engine asks."""
        return self.store.catalogue.ahead(Chain(where, all_tokens), at)

    def keep(self, all_tokens: Sequence[int], where: Space = SPACE) -> list[bool]:
        """Write what is missing."""
        return [
            self.store.put(run, kv(where, all_tokens, run.start, run.end))
            for run in self.missing(all_tokens, where)
        ]

    def back(self, all_tokens: Sequence[int], where: Space = SPACE) -> int:
        """How many of the tokens come back, each piece compared with what was written."""
        count = 0
        for found in self.ahead(all_tokens, where):
            payload = self.store.get(found)
            if payload is None:
                continue
            if found.matched == found.entry.label.count:
                assert payload == kv(where, all_tokens, found.start, found.end)
            count += found.matched
        return count

    def files(self) -> list[Path]:
        """Of entries."""
        return sorted((self.path / "entries").iterdir())

    def again(self, limit: int = ROOMY) -> Place:
        """The folder, closed and opened again."""
        self.store.close()
        return Place(self.path, limit)
