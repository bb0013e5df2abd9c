"""What happened to a session, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sessiond.client.cli.numbers import count, duration
from sessiond.client.cli.sessions import state_word
from sessiond.client.cli.terminal_text import clean_line

if TYPE_CHECKING:
    from sessiond.v1.session_service_pb2 import FilesChanged, Invalidation, KeepHotRun, SessionEvent

_MOST_PATHS = 5


class Line(NamedTuple):
    """One thing that happened."""

    kind: str
    text: str


def told(event: SessionEvent) -> Line | None:
    """An event as a line; None for one of a kind that this client does not know."""
    match event.WhichOneof("event"):
        case "prefill_progress":
            progress = event.prefill_progress
            done = f"{count(progress.done_tokens)} of {count(progress.total_tokens)} tokens"
            return Line("prefill", f"{stage_word(progress.stage)}: {done}")
        case "files_changed":
            return Line("files", _files(event.files_changed))
        case "keep_hot":
            return Line("keep-hot", _keep_hot(event.keep_hot))
        case "invalidation":
            return Line("invalidated", _invalidation(event.invalidation))
        case "fault":
            return Line("fault", clean_line(f"{event.fault.reason}: {event.fault.message}"))
        case "state":
            return Line("state", state_word(event.state))
        case _:
            return None


def stage_word(stage: str) -> str:
    """A stage of a prefill, as people read it."""
    return clean_line(stage).replace("_", "-")


def _files(changed: FilesChanged) -> str:
    if not changed.paths:
        return "any of them may have changed"
    named = ", ".join(clean_line(path) for path in changed.paths[:_MOST_PATHS])
    more = len(changed.paths) - _MOST_PATHS
    return f"{named}, and {count(more)} more" if more > 0 else named


def _keep_hot(run: KeepHotRun) -> str:
    phase = clean_line(run.phase)
    match run.phase:
        case "finished":
            return f"{phase}: {count(run.prefilled_tokens)} tokens computed, {duration(run.lag_ms)} after the save"
        case "superseded":
            return f"{phase} after {count(run.prefilled_tokens)} tokens"
        case _:
            return phase


def _invalidation(invalidation: Invalidation) -> str:
    miss = invalidation.miss
    return f"{clean_line(miss.message) or clean_line(miss.cause)} ({count(miss.cost_tokens)} tokens)"
