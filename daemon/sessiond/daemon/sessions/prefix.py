"""A prefix: segments, each tokenized on its own and joined as tokens, so that an edit never moves a token boundary
in its neighbour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sessiond.daemon.engine.seat import Texts
from sessiond.daemon.sessions.manifest import Identity, Manifest, ManifestSegment, byte_hash, token_hash
from sessiond.daemon.workspace.segment import LeftOut, Segment

FRAME = "frame"
"""Id and kind of the segment that opens a framed prefix."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a session's prefix is, whether or not it is resident."""

    segments: tuple[Segment, ...]
    runs: tuple[tuple[int, ...], ...]
    """Tokens of each segment."""
    tokens: list[int]
    """All of them."""
    manifest: Manifest
    stable_token_hash: str
    left_out: tuple[LeftOut, ...] = ()
    next_frame: tuple[int, ...] = ()
    """Tokens that stand between it and a question of the user: no part of it, but known before the question is."""


def empty_prefix(identity: Identity) -> Prefix:
    """No tokens at all."""
    return _join(identity, [], [], ())


async def build_prefix(
    engine: Texts,
    identity: Identity,
    prompt_format: str,
    segments: Sequence[Segment],
    left_out: Sequence[LeftOut] = (),
) -> Prefix:
    """Tokenize and join. A prefix without text has no tokens, and no frame."""
    content = [segment for segment in segments if segment.text]
    if not content:
        return _join(identity, list(segments), [()] * len(segments), left_out)
    # A system message stands for the prefix; what follows it is not known yet, so it belongs to the suffix.
    framing = await engine.framing(prompt_format, ["system", "user"])
    bos = engine.facts.vocab.bos
    opening = ([bos] if identity.add_bos and bos is not None else []) + list(framing.runs[0])
    runs = await engine.tokenize([segment.text for segment in segments])
    content_runs = [tuple(run) for run in runs]
    if not opening:
        prefix = _join(identity, list(segments), content_runs, left_out)
    else:
        frame = Segment(FRAME, FRAME, framing.pieces[0], stable=False)
        prefix = _join(identity, [frame, *segments], [tuple(opening), *content_runs], left_out)
    return replace(prefix, next_frame=tuple(framing.runs[1]))


def _join(
    identity: Identity, segments: list[Segment], runs: Sequence[tuple[int, ...]], left_out: Sequence[LeftOut]
) -> Prefix:
    told: list[ManifestSegment] = []
    stable_bytes = hashlib.sha256()
    stable_tokens: list[int] = []
    at_byte = at_token = 0
    for segment, run in zip(segments, runs, strict=True):
        size = len(segment.text.encode())
        told.append(
            ManifestSegment(
                id=segment.id,
                kind=segment.kind,
                path=segment.path,
                stable=segment.stable,
                cache_class=segment.cache_class,
                byte_start=at_byte,
                byte_end=at_byte + size,
                token_start=at_token,
                token_end=at_token + len(run),
                byte_hash=byte_hash(segment.text),
                token_hash=token_hash(run),
            )
        )
        if segment.stable:
            stable_bytes.update(segment.text.encode())
            stable_tokens.extend(run)
        at_byte, at_token = at_byte + size, at_token + len(run)
    return Prefix(
        segments=tuple(segments),
        runs=tuple(runs),
        tokens=[token for run in runs for token in run],
        manifest=Manifest.of(identity, stable_bytes.hexdigest(), told),
        stable_token_hash=token_hash(stable_tokens),
        left_out=tuple(left_out),
    )
