"""The manifest: the identity of all that computes a session's KV, and the segments that went in.

Every hash is lower-case hex SHA-256. Tokens are hashed as little-endian 32-bit numbers, so that a client in any
language can compute the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from sessiond.adapters.base import ContextSettings, ModelFacts, ModelSettings
from sessiond.daemon.engine.identity import digest_of, runtime_digest
from sessiond.v1.errors import FieldMismatch, ManifestMismatch

MAX_MISMATCHES = 16
"""Fields that one error names at most."""


def byte_hash(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def token_hash(tokens: Sequence[int]) -> str:
    """SHA-256 of tokens."""
    return hashlib.sha256(struct.pack(f"<{len(tokens)}i", *tokens)).hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes KV reusable. Two sessions that differ here share nothing."""

    profile_id: str
    """Digest of all the rest."""
    backend: str
    backend_version: str
    model_digest: str
    tokenizer_digest: str
    prompt_format: str
    prompt_template_digest: str
    runtime_digest: str
    add_bos: bool


def identify(
    facts: ModelFacts,
    loading: ModelSettings,
    context: ContextSettings,
    prompt_format: str,
    template_digest: str,
    *,
    disable_bos: bool,
) -> Identity:
    """The identity of a session's KV."""
    told = {
        "backend": facts.backend,
        "backend_version": facts.backend_version,
        "model_digest": facts.model_digest,
        "tokenizer_digest": facts.vocab.digest,
        "prompt_format": prompt_format or "model",
        "prompt_template_digest": template_digest,
        "runtime_digest": runtime_digest(loading, context),
    }
    add_bos = facts.vocab.add_bos and not disable_bos and facts.vocab.bos is not None
    return Identity(profile_id=digest_of({**told, "add_bos": add_bos}), add_bos=add_bos, **told)


@dataclass(frozen=True, slots=True)
class ManifestSegment:
    """One segment. Ranges are half-open and count from the start of the prefix."""

    id: str
    kind: str
    path: str
    stable: bool
    cache_class: str
    byte_start: int
    byte_end: int
    token_start: int
    token_end: int
    byte_hash: str
    token_hash: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Identity and segments. `digest` is over all of the rest."""

    identity: Identity
    stable_byte_hash: str
    segments: tuple[ManifestSegment, ...]
    digest: str

    @classmethod
    def of(cls, identity: Identity, stable_byte_hash: str, segments: Iterable[ManifestSegment]) -> Manifest:
        """The manifest, with its digest."""
        listed = tuple(segments)
        told = [asdict(identity), stable_byte_hash, [asdict(segment) for segment in listed]]
        return cls(identity, stable_byte_hash, listed, digest_of(told))

    def flat(self) -> dict[str, str]:
        """Every field by its name in the contract, as text."""
        told = {name: str(value) for name, value in asdict(self.identity).items()}
        told["stable_byte_hash"] = self.stable_byte_hash
        for index, segment in enumerate(self.segments):
            for entry in fields(segment):
                told[f"segments[{index}].{entry.name}"] = str(getattr(segment, entry.name))
        told["digest"] = self.digest
        return told


def check(expected: dict[str, str] | None, actual: Manifest) -> None:
    """Raises ManifestMismatch if a client expects something else. None asks for no check; an empty expectation
    matches nothing.
    """
    if expected is None:
        return
    real = actual.flat()
    names = [*real, *(name for name in expected if name not in real)]
    differing = [
        FieldMismatch(name, expected.get(name, ""), real.get(name, ""))
        for name in names
        if expected.get(name, "") != real.get(name, "")
    ]
    if differing:
        raise ManifestMismatch(differing[:MAX_MISMATCHES])
