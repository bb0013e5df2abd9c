"""A turn of llama-server: what it is asked, and what its events say of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.stamps import token_ms
from benchmark.unix_http import Address, ServerError

ANSWER_SECONDS = 1800.0
CACHE_MIB = 8192
"""For prompts that left the cells: far more than a comparison needs."""


@dataclass(slots=True)
class ServerTurn:
    """What one request cost. Times are those of `time.perf_counter`."""

    begun: float
    stamps: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    prefilled_tokens: int = 0
    reused_tokens: int = 0

    @property
    def first_at(self) -> float:
        """When the first token came."""
        return self.stamps[0][0]

    @property
    def first_token_ms(self) -> float:
        """From the request to the first token."""
        return (self.first_at - self.begun) * 1e3

    @property
    def token_ms(self) -> float:
        """Each token after the first; 0 if there was none."""
        return token_ms(self.stamps)

    def take(self, event: dict[str, Any]) -> None:
        """Note an event that came just now."""
        if event.get("tokens"):
            self.stamps.append((time.perf_counter(), len(event["tokens"])))
        if event.get("stop"):
            self.prefilled_tokens = int(event["timings"]["prompt_n"])
            self.reused_tokens = int(event["timings"]["cache_n"])


def request(tokens: Sequence[int], answer: int, slot: int | None = None) -> bytes:
    """For the likeliest `answer` tokens after these; it chooses the slot if none is said."""
    asked: dict[str, object] = {
        "prompt": list(tokens),
        "n_predict": answer,
        "stream": True,
        "cache_prompt": True,
        "ignore_eos": True,
        "samplers": ["top_k"],
        "top_k": 1,
    }
    if slot is not None:
        asked["id_slot"] = slot
    return json.dumps(asked).encode()


def complete(address: Address, body: bytes) -> ServerTurn:
    """A turn of a `request`, which is written before: that is no server's time. Raises ServerError."""
    turn = ServerTurn(time.perf_counter())
    try:
        for event in address.events("/completion", body, ANSWER_SECONDS):
            turn.take(event)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"its answer cannot be read: {error}") from error
    if not turn.stamps:
        raise ServerError("it answered without a token")
    return turn
