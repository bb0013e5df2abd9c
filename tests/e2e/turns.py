"""Sessions and their turns, as tests use them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.e2e.daemon import eventually

from sessiond.client import Client, Config, Session
from sessiond.v1 import config_pb2, context_pb2

T = TypeVar("T")

RAW = Config(prompt_format="raw")
"""No frames: under a scripted model a character of "xyz" is a token, and nothing else is."""


def never_ending(client: Client) -> list[config_pb2.LogitBias]:
    """A bias that forbids every token with which a model could end its answer."""
    text = "<|im_end|><|end|><|endoftext|>"
    found = client.tokenize(text, parse_special=True)
    ends = [token for token, piece in zip(found.token_ids, found.pieces, strict=True) if _special(piece)]
    return [config_pb2.LogitBias(token_id=token, bias=float("-inf")) for token in set(ends)]


def _special(piece: bytes) -> bool:
    return piece in {b"", b"<|im_end|>", b"<|end|>", b"<|endoftext|>"}


@contextmanager
def in_background(act: Callable[[], T]) -> Generator[Future[T], None, None]:
    """Run it beside the test; it is waited for at the end."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(act)


def wait_for_stage(session: Session, stage: str, done: int = 1) -> context_pb2.Busy:
    """Until a turn is at this stage and has got somewhere."""

    def look() -> context_pb2.Busy | None:
        busy = session.explain().busy
        return busy if busy.stage == stage and busy.done_tokens >= done else None

    return eventually(look, f"{session.name} is in stage {stage}")


def text_of(chunks: Iterator[context_pb2.StreamChunk]) -> str:
    """The whole answer."""
    return "".join(chunk.text for chunk in chunks)


def answers(session: Session, question: str = "xyz") -> context_pb2.DecodeSummary:
    """One turn from its prefix to its end: the session works."""
    last: Any = None
    for event in session.complete(question, prefix="xx", mode="replace", max_tokens=4):
        last = event
    summary: context_pb2.DecodeSummary = last.chunk.summary
    assert summary.finish_reason in {context_pb2.FINISH_REASON_LENGTH, context_pb2.FINISH_REASON_STOP}
    return summary
