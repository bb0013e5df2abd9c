"""Of what kind a turn was, by where the KV of its prefix came from."""

from __future__ import annotations

from sessiond.v1 import context_pb2

COLD = "cold"
WARM = "warm"
RESTORED = "restored"
EDITED = "edited"
CONTINUED = "continued"
UNKNOWN = "unknown"
CALLED = "called"

KINDS = {
    COLD: "nothing of the prefix was there",
    WARM: "all of the prefix was in cells",
    RESTORED: "all of the prefix was there, some of it in memory or on disk",
    EDITED: "a part of the prefix was there, and the rest was computed",
    CONTINUED: "no prefix was asked for: the answer goes on from what the session is",
    UNKNOWN: "the backend does not say what it reused",
    CALLED: "a call of a function, whose body is hot",
}
"""Every kind, and what it means."""


def kind_of(status: context_pb2.PrefixStatus | None) -> str:
    """The kind of a turn with this status of its prefix; None if it asked for none."""
    if status is None:
        return CONTINUED
    if status.reuse_source == context_pb2.REUSE_SOURCE_UNKNOWN:
        return UNKNOWN
    if status.prefilled_tokens and not status.reused_tokens + status.restored_tokens:
        return COLD
    if status.prefilled_tokens:
        return EDITED
    return RESTORED if status.restored_tokens else WARM
