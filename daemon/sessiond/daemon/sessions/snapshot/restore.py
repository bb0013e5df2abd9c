"""A file becomes a session again: all of it is checked before anything is touched, and the session changes in one step."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sessiond.daemon.engine.disk.keys import unpack
from sessiond.daemon.engine.identity import digest_of
from sessiond.daemon.sessions.branch import Branch
from sessiond.daemon.sessions.content import Content
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.prefix import build_prefix
from sessiond.daemon.sessions.segments import faults
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot import format as form
from sessiond.daemon.sessions.snapshot.bound import (
    NUM_CELLS,
    check_identity,
    check_supported,
    identity_of,
)
from sessiond.daemon.sessions.snapshot.faults import in_words, refused
from sessiond.daemon.sessions.snapshot.reading import Piece, Reading
from sessiond.daemon.sessions.snapshot.seal import Seal
from sessiond.daemon.sessions.snapshot.texts import check_texts
from sessiond.daemon.sessions.snapshot.threads import in_thread, to_the_end
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.v1.errors import ContextOverflow

Told = Callable[[int, int], None]
"""Hears how far it is: tokens done, tokens to do."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    tokens: int
    computed: int
    """Of these, what the file's KV could not be taken for."""
    apart: bool
    """Whether the KV is somebody else's, and stands where no other session finds it."""


@dataclass(frozen=True, slots=True)
class _Plan:
    content: Content
    request: PrefixRequest
    """What the prefix is made from."""
    pieces: list[Piece]
    """What is taken over."""
    is_ours: bool
    num_cells: int
    """Of the arena in which the pieces were computed."""


async def restore(session: Session, path: Path, seal: Seal) -> Restored:
    """Have the session be what a file says.

    Raises InvalidInput that names the path if it cannot be read or is no sound snapshot, ManifestMismatch,
    ContextOverflow, SessionBusy, UnsupportedFeature, SessionUnavailable; the session is as it was then.
    """
    check_supported(session)
    reading = Reading(path)
    try:
        async with session.restoring() as told:
            with in_words("read", session.check_alive):
                await in_thread(reading.open)
                plan = await _plan(session, reading, seal)
                # Never where the session is now: that may hold KV of a snapshot before this one, for which nobody answers.
                home = session.home.shared
                if plan.pieces and not plan.is_ours:
                    home = _apart(home)
                computed = await _move(session, home, plan, reading, told)
                return Restored(plan.content.size, computed, home.apart)
    finally:
        await in_thread(reading.close)


async def _plan(session: Session, reading: Reading, seal: Seal) -> _Plan:
    """What the file asks for, read to its end and held against what the session is."""
    header = await in_thread(reading.header)
    actual = identity_of(session)
    check_identity(header.identity, actual)
    num_ctx = session.config.context.num_ctx
    if header.count > num_ctx:
        raise ContextOverflow("restore", 0, header.count, num_ctx)
    pieces: list[Piece] = []
    at = 0
    while at < header.count:
        session.check_alive()
        pieces.append(await in_thread(reading.piece, at, header.count, session.home.cell_bytes))
        at = pieces[-1].end
    sealed = await in_thread(reading.seal)
    is_ours = await in_thread(seal.is_ours, sealed, reading.checksum, session.home.root)
    content = await _content(session, header)
    takes = header.identity.get(NUM_CELLS) == actual[NUM_CELLS]
    cells = int(actual[NUM_CELLS])
    return _Plan(content, PrefixRequest(header.segments), pieces if takes else [], is_ours, cells)


async def _content(session: Session, header: form.Header) -> Content:
    """What the session would be. Its texts are tokenized again: a text cannot stand for other tokens."""
    tokens = unpack(header.tokens)
    seat = session.home.seat
    if max(tokens, default=0) >= seat.facts.vocab.size:
        raise refused("it has tokens that the model has not")
    fault = next(faults(header.segments), None)
    if fault is not None:
        _, field, why = fault
        raise refused(f"the {field} of a segment {why}")
    await check_texts(session, header)
    prefix = await build_prefix(
        seat, session.identity, session.config.prompt_format, header.segments, header.left_out
    )
    if prefix.tokens != tokens[: header.prefix_tokens]:
        raise refused("its tokens are not those of its texts")
    if prefix.manifest.digest != header.manifest_digest.hex():
        raise refused("its manifest is not that of its texts")
    return Content(prefix, tuple(tokens[header.prefix_tokens :]), header.roles)


def _apart(home: Home) -> Home:
    """A tree of its own: nobody can say whether the KV is what it claims to be, so no other session may find it."""
    return replace(home, arena=digest_of([home.arena, secrets.token_hex(16)]), left=home)


async def _move(session: Session, home: Home, plan: _Plan, reading: Reading, told: Told) -> int:
    """Bring a new branch to the content, and give it to the session; how many tokens had to be computed."""
    spare = session.spares.new(home)
    try:
        with session.spares.known(spare):
            async with spare.turn():
                computed = await _load(spare, plan, reading, told)
                borders = [segment.token_end for segment in plan.content.prefix.manifest.segments]
                tokens = plan.content.tokens
                advanced = await spare.advance(tokens, told, lambda _held: None, borders, lambda: None)
            session.check_alive()
            spare = session.take_over(spare, home, plan.content, plan.request)
        return computed + advanced.prefilled
    finally:
        await to_the_end(spare.close())


async def _load(spare: Branch, plan: _Plan, reading: Reading, told: Told) -> int:
    """Bring a branch to the pieces of the plan; how many tokens had to be computed for that."""
    tokens, computed = plan.content.tokens, 0
    for piece in plan.pieces:
        payload = await in_thread(reading.payload, piece)
        engine = await spare.stand()
        # Not sent again to the next engine: it may be this piece that kills.
        start, cells = piece.start, plan.num_cells
        taken = await engine.load_kv(spare.name, tokens[: piece.end], start, cells, payload)
        if taken.refused:
            raise refused(f"it cannot be restored: {taken.refused}")
        computed += taken.prefilled
        told(piece.end, len(tokens))
    return computed
