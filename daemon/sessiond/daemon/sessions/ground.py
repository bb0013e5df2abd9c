"""Where something may stand that was asked for with a model and settings: a session, the body of a function."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.identity import digest_of
from sessiond.daemon.engine.memory import KvMemory
from sessiond.daemon.engine.process import EngineFailed
from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.manifest import Identity, identify
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.opening import open_branch
from sessiond.v1.errors import (
    FieldMismatch,
    ManifestMismatch,
    SessionUnavailable,
    UnsupportedFeature,
    invalid,
)


@dataclass(frozen=True, slots=True)
class Ground:
    """An arena, and what KV there depends on."""

    home: Home
    identity: Identity
    config: SessionConfig
    """With what the daemon chose."""


async def take_ground(
    memory: KvMemory,
    seat: Seat,
    engine: Engine,
    branch: str,
    request: OpenRequest,
    settings: ContextSettings,
    *,
    yields: bool = False,
) -> Ground:
    """Open a branch where these settings, in which nothing is left open, put the request; see `wire.Open` for `yields`.

    Raises InvalidInput, UnsupportedFeature, ManifestMismatch, SessionUnavailable, EngineDied.
    """
    config = request.config
    arena, root = arena_name(request.workspace_root, settings), str(request.workspace_root or "")
    try:
        # Templates look at the first message.
        framing = await engine.framing(config.prompt_format, ["user"])
    except EngineFailed as failed:
        if failed.kind != "setting":
            raise SessionUnavailable(f"the prompt format could not be read: {failed}") from failed
        raise invalid(f"config.{failed.field}", str(failed)) from failed
    try:
        opened = await open_branch(memory, engine, branch, arena, root, settings, yields=yields)
    except EngineFailed as failed:
        if failed.kind == "unsupported":
            raise UnsupportedFeature(failed.field, engine.facts.backend) from failed
        field = f"config.{failed.field}" if failed.field else "config"
        raise invalid(field, str(failed)) from failed
    expected = config.prompt_template_digest
    if expected and expected != framing.template_digest:
        mismatch = FieldMismatch("prompt_template_digest", expected, framing.template_digest)
        raise ManifestMismatch([mismatch])
    identity = identify(
        engine.facts,
        config.model,
        opened.settings,
        config.prompt_format,
        framing.template_digest,
        disable_bos=config.disable_bos,
    )
    home = Home(seat, arena, root, memory, opened.cell_bytes, opened.settings)
    return Ground(home, identity, config.with_context(opened.settings))


def arena_name(root: Path | None, settings: ContextSettings) -> str:
    """Sessions with one workspace and the same settings share a tree; all without a workspace are as of one."""
    return digest_of([str(root or ""), asdict(settings)])
