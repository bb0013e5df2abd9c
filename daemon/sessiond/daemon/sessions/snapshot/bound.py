"""What a snapshot is bound to: all that makes its tokens and its KV what they are."""

from __future__ import annotations

from collections.abc import Mapping

from sessiond.daemon.engine.carried import can_be_carried
from sessiond.daemon.engine.identity import kv_identity
from sessiond.daemon.sessions.manifest import MAX_MISMATCHES
from sessiond.daemon.sessions.session import Session
from sessiond.v1.errors import FieldMismatch, ManifestMismatch, UnsupportedFeature

NUM_CELLS = "num_cells"
"""The one field that may differ: how many cells there are is decided by the memory of the moment. KV is not taken over then,
and is computed."""
_SHOWN = 128
"""Letters of a value that an error shows: a value comes from a file."""


def check_supported(session: Session) -> None:
    """Raises UnsupportedFeature where KV cannot be carried. A low-rank adapter is known by its path alone, which does not
    say what it was when KV was computed.
    """
    facts = session.engine.facts
    if not can_be_carried(facts.capabilities) or session.config.model.loras:
        raise UnsupportedFeature("snapshot", facts.backend)


def identity_of(session: Session) -> dict[str, str]:
    """Every field by name, as it is on the engine that stands."""
    identity, engine = session.identity, session.engine
    return {
        **kv_identity(engine.facts, session.config.model, session.home.settings_on(engine)),
        "prompt_format": identity.prompt_format,
        "prompt_template_digest": identity.prompt_template_digest,
        "add_bos": str(identity.add_bos),
    }


def check_identity(saved: Mapping[str, str], actual: Mapping[str, str]) -> None:
    """Raises ManifestMismatch, each field named, unless a snapshot is bound to what a session is."""
    names = sorted({*saved, *actual} - {NUM_CELLS})
    differing = [
        FieldMismatch(name[:_SHOWN], saved.get(name, "")[:_SHOWN], actual.get(name, "")[:_SHOWN])
        for name in names
        if saved.get(name) != actual.get(name)
    ]
    if differing:
        raise ManifestMismatch(differing[:MAX_MISMATCHES])
