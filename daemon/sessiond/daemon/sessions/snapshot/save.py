"""A session becomes a file: what it is at one moment, by a branch of its own, so that it may go on meanwhile."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from sessiond.daemon.engine.disk.keys import pack
from sessiond.daemon.sessions.branch import Branch
from sessiond.daemon.sessions.content import Content
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.opening import drop
from sessiond.daemon.sessions.prefix import FRAME, Prefix
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.snapshot import format as form
from sessiond.daemon.sessions.snapshot.bound import NUM_CELLS, check_supported, identity_of
from sessiond.daemon.sessions.snapshot.draft import Draft
from sessiond.daemon.sessions.snapshot.faults import in_words
from sessiond.daemon.sessions.snapshot.seal import Seal
from sessiond.daemon.sessions.snapshot.threads import in_thread, to_the_end
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import SessionUnavailable, invalid


async def save(session: Session, path: Path, seal: Seal) -> int:
    """Write a snapshot; how many bytes it has.

    Raises InvalidInput that names the path if that cannot be written, SessionBusy, UnsupportedFeature, SessionUnavailable.
    """
    check_supported(session)
    draft = Draft(path)
    try:
        with in_words("written", session.check_alive):
            await in_thread(draft.open)
            async with contextlib.AsyncExitStack() as stack:
                async with session.still() as content:
                    # What it is bound to is that of the same moment: a restore may give it another home.
                    home = session.home
                    branch = await stack.enter_async_context(_forked(session))
                    header = _header(session, content)
                await stack.enter_async_context(branch.turn())
                checksum = await _write(draft, branch, home, header, content)
            told = form.NOBODY if home.apart else await in_thread(seal.of, checksum, home.root)
            await in_thread(draft.write, form.trailer(checksum, told))
            await in_thread(draft.commit)
            return draft.size
    finally:
        await in_thread(draft.close)


async def _write(draft: Draft, branch: Branch, home: Home, header: form.Header, content: Content) -> bytes:
    """The front and all pieces; the checksum of these."""
    try:
        front = await in_thread(form.front, header)
    except ValueError as error:
        raise invalid("name", f"the session cannot be saved: {error}") from error
    await in_thread(draft.write, front)
    checksum, tokens = front[-len(form.NOBODY) :], content.tokens
    for start, end in _cuts(len(tokens), home.cell_bytes):
        engine = await branch.stand()
        if str(home.settings_on(engine).num_cells) != header.identity[NUM_CELLS]:
            raise SessionUnavailable("the engine died, and the next one has another number of cells")
        payload = await engine.save_kv(branch.name, tokens, start, end)
        checksum = await in_thread(_put, draft, checksum, start, end, payload)
    return checksum


def _put(draft: Draft, before: bytes, start: int, end: int, payload: bytes) -> bytes:
    head, checksum = form.piece(before, start, end - start, payload)
    draft.write(head, payload, checksum)
    return checksum


def _cuts(count: int, cell_bytes: int) -> Iterator[tuple[int, int]]:
    """Where pieces begin and end."""
    step = form.step(cell_bytes)
    return ((start, min(start + step, count)) for start in range(0, count, step))


@contextlib.asynccontextmanager
async def _forked(session: Session) -> AsyncGenerator[Branch, None]:
    """A branch that stands where the session's does, until this ends. Within `Session.still`."""
    name, home = f"{session.id}-save-{secrets.token_hex(4)}", session.home
    try:
        await session.branch.fork(name)
    except BaseException:
        # Also after a cancel: the engine may have opened it.
        await to_the_end(drop(home.engine, name))
        raise
    branch = Branch(home, name, check=session.check_alive, is_open=True)
    try:
        with session.spares.known(branch):
            yield branch
    finally:
        await to_the_end(branch.close())


def _header(session: Session, content: Content) -> form.Header:
    prefix = content.prefix
    return form.Header(
        identity=identity_of(session),
        manifest_digest=bytes.fromhex(prefix.manifest.digest),
        prefix_tokens=len(prefix.tokens),
        tokens=pack(content.tokens),
        roles=content.roles,
        segments=_without_frame(prefix),
        left_out=prefix.left_out[: form.MAX_LEFT_OUT],
    )


def _without_frame(prefix: Prefix) -> tuple[Segment, ...]:
    """The frame is not the client's: it is made again with the prefix."""
    framed = bool(prefix.segments) and prefix.segments[0].kind == FRAME
    return prefix.segments[1:] if framed else prefix.segments
