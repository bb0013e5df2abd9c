"""Turns of the daemon through its socket, timed where the client sees them."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.stamps import token_ms
from sessiond.client import Client, Config, DecodeConfig, PrefixInput, Session, SessiondError
from sessiond.v1.config_pb2 import LogitBias
from sessiond.v1.context_pb2 import PrefixStatus, StreamChunk, SuffixStatus, Timings

ROOM = 512
"""Tokens of a session's window beside what is put into it."""

TURN_SECONDS = 900.0
"""After which a turn counts as one that never ends."""

CLOSE_SECONDS = 30.0

_NEVER = -1e5
"""A bias with which a token is never chosen."""


@dataclass(slots=True)
class Turn:
    """What a turn cost, as the client sees it. Times are those of `time.perf_counter`."""

    begun: float
    prefix: PrefixStatus = field(default_factory=PrefixStatus)
    suffix: SuffixStatus = field(default_factory=SuffixStatus)
    stamps: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """When chunks came, and with how many tokens."""
    timings: Timings = field(default_factory=Timings)
    """The daemon's own."""
    text: str = ""
    tokens: list[int] = field(default_factory=list[int])
    """The answer's."""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    """Guessed ahead, and how many of these were right."""
    ended: float = 0.0

    @property
    def first_at(self) -> float:
        """When the first token came, or the word that there is none."""
        return self.stamps[0][0] if self.stamps else self.ended

    @property
    def first_token_ms(self) -> float:
        """From the request to the first token."""
        return (self.first_at - self.begun) * 1e3

    @property
    def token_ms(self) -> float:
        """Each token after the first; 0 if there was none."""
        return token_ms(self.stamps)

    def take(self, chunk: StreamChunk) -> None:
        """Note a chunk that came just now."""
        self.ended = time.perf_counter()
        self.text += chunk.text
        self.tokens.extend(chunk.token_ids)
        if chunk.HasField("summary"):
            self.timings = chunk.summary.timings
            self.drafted_tokens = chunk.summary.drafted_tokens
            self.accepted_tokens = chunk.summary.accepted_tokens
        if chunk.token_ids:
            self.stamps.append((self.ended, len(chunk.token_ids)))


def greedy(tokens: int, never: Sequence[int] = ()) -> DecodeConfig:
    """So many of the likeliest tokens; none of `never`."""
    return DecodeConfig(
        max_tokens=tokens, logit_bias=[LogitBias(token_id=token, bias=_NEVER) for token in never]
    )


def complete(session: Session, suffix: str, config: DecodeConfig, prefix: PrefixInput | None = None) -> Turn:
    """One whole turn: the prefix if one is given, the suffix in the place of the last one, the answer."""
    turn = Turn(time.perf_counter())
    for event in session.complete(suffix, mode="replace", prefix=prefix, config=config, timeout=TURN_SECONDS):
        if event.HasField("prefix_status"):
            turn.prefix = event.prefix_status
        elif event.HasField("suffix_status"):
            turn.suffix = event.suffix_status
        else:
            turn.take(event.chunk)
    return turn


def decode(session: Session, config: DecodeConfig) -> Turn:
    """The answer alone, after all that is resident."""
    turn = Turn(time.perf_counter())
    for chunk in session.decode(config, timeout=TURN_SECONDS):
        turn.take(chunk)
    return turn


@contextmanager
def sessions(
    client: Client, root: Path, number: int, window: int, *, room: int = ROOM, deterministic: bool = False
) -> Generator[list[Session]]:
    """So many sessions on one workspace, each with a key of its own, for `window` tokens and `room` more; closed at
    the end.
    """
    config = Config(num_ctx=window + room, prompt_format="raw", deterministic=deterministic)
    root.mkdir(exist_ok=True)
    opened: list[Session] = []
    with ExitStack() as stack:
        for index in range(number):
            session = client.open_session(workspace_root=root, key=str(index), config=config)
            stack.callback(_close, session)
            opened.append(session)
        yield opened


def _close(session: Session) -> None:
    """End a session. One that cannot be ended has failed before, and that is told."""
    with suppress(SessiondError, TimeoutError):
        session.close(timeout=CLOSE_SECONDS)
