"""What turns answer with, in the contract's words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sessiond.daemon.engine.wire import Advanced, Generated, Scores
from sessiond.daemon.sessions.edit_cost import EditCost
from sessiond.daemon.sessions.manifest import Manifest
from sessiond.daemon.sessions.miss import Miss
from sessiond.daemon.workspace.segment import LeftOut


@dataclass(slots=True)
class Timings:
    """Milliseconds; a part that did not happen is 0. Filled in while the request is served."""

    queue_ms: float = 0.0
    tokenize_ms: float = 0.0
    restore_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    arrived: float = field(default_factory=time.monotonic)
    deadline: float | None = None
    """By `time.monotonic`, when the client gives up."""

    def patience(self) -> float | None:
        """Seconds until the client gives up; None if it does not say."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def add(self, took: Advanced) -> None:
        """A job, or a part of one, brought a branch to its tokens."""
        self.queue_ms += took.queue_ms
        self.prefill_ms += took.prefill_ms
        self.restore_ms += took.restore_ms

    def since_arrival(self) -> float:
        """Milliseconds since the request came."""
        return (time.monotonic() - self.arrived) * 1e3

    def close(self) -> Timings:
        """The same, with its total."""
        self.total_ms = self.since_arrival()
        return self


@dataclass(frozen=True, slots=True)
class PrefixStatus:
    """The contract's PrefixStatus."""

    reused_tokens: int
    restored_tokens: int
    prefilled_tokens: int
    dropped_tokens: int
    prefix_tokens: int
    resident_tokens: int
    available_tokens: int
    stable_byte_hash: str
    stable_token_hash: str
    manifest_digest: str
    reuse_source: str


@dataclass(frozen=True, slots=True)
class SuffixStatus:
    """The contract's SuffixStatus."""

    suffix_tokens: int
    reused_tokens: int
    prefilled_tokens: int
    prefix_tokens: int
    resident_tokens: int
    available_tokens: int
    manifest_digest: str
    fim_before_bytes: int = 0
    fim_after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """The contract's DecodeSummary, without its timings."""

    finish_reason: str
    stop_string: str
    generated_tokens: int
    seed: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @classmethod
    def of(cls, generated: Generated, seed: int) -> Summary:
        """Of an answer that the engine ended."""
        return cls(
            *(generated.reason, generated.stop_string, generated.generated, seed),
            *(generated.drafted, generated.accepted),
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The contract's StreamChunk. `summary` in the last one only."""

    text: str
    token_ids: tuple[int, ...]
    summary: Summary | None = None
    scores: tuple[Scores, ...] = ()
    """One for each of the tokens, if they were asked for."""


@dataclass(frozen=True, slots=True)
class Busy:
    """What runs now."""

    stage: str
    done_tokens: int
    total_tokens: int
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The contract's ContextReport; the tokens of each segment that are resident stand beside the manifest."""

    resident_tokens: int
    prefix_tokens: int
    suffix_tokens: int
    num_ctx: int
    available_tokens: int
    stable_token_hash: str
    manifest: Manifest
    resident_by_segment: tuple[int, ...]
    memory_by_segment: tuple[int, ...]
    kv_bytes: int
    shared_tokens: int
    left_out: tuple[LeftOut, ...]
    last_miss: Miss | None
    busy: Busy | None
    closed: bool
    fatal_cause: str
    edit_cost: EditCost | None = None
    """None for a prefix that is no workspace's, or of whose edits nothing is known."""
