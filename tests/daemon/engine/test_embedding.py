"""Vectors between batches: one text at a time, all commands in turn, and a cancel that ends its own only."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from tests.daemon.engine.scripted import fresh_answer, load

from sessiond.adapters.base import ContextSettings, ModelSettings, Sampling
from sessiond.daemon.engine import embedding, wire
from sessiond.daemon.engine.embedding import Embedding
from sessiond.daemon.engine.engine import Engine, Generation
from sessiond.daemon.engine.loop import Cancelled
from sessiond.daemon.engine.process import EngineProcess

_NAME = "scripted-kv:embed,num_ctx=64"


def _vectors(texts: list[str]) -> list[bytes]:
    embedder = load(_NAME).new_embedder()
    return [embedder.embed(embedder.tokens(text)) for text in texts]


@dataclass
class Bench:
    """An Embedding without threads: what it would have the loop call waits here, and what it would do aside."""

    calls: deque[Callable[[], None]] = field(default_factory=deque[Callable[[], None]])
    aside: deque[Callable[[], None]] = field(default_factory=deque[Callable[[], None]])
    ended: list[tuple[int, wire.Answer | BaseException]] = field(
        default_factory=list[tuple[int, wire.Answer | BaseException]]
    )

    def __post_init__(self) -> None:
        self.embedding = Embedding(
            load(_NAME),
            self.calls.append,
            self.aside.append,
            lambda command, answer: self.ended.append((command, answer)),
            lambda command, error: self.ended.append((command, error)),
        )

    def ask(self, command_id: int, texts: list[str], *, normalize: bool = False) -> None:
        self.embedding.heard(wire.Embed(command_id, texts, normalize))
        while self.aside:
            self.aside.popleft()()

    def turn(self) -> None:
        """What the loop does before a batch."""
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def answer(self, command_id: int) -> wire.Embedded:
        [found] = [what for command, what in self.ended if command == command_id]
        assert isinstance(found, wire.Embedded)
        return found


def test_each_turn_of_the_loop_makes_one_vector_and_all_have_their_turn() -> None:
    bench = Bench()
    bench.ask(1, ["a", "b", "c", "d"])
    bench.ask(2, ["e"])
    turns = 0
    while bench.calls:
        bench.turn()
        turns += 1
    assert turns == 6  # one in which both are taken in
    assert [command for command, _ in bench.ended] == [2, 1]
    assert bench.answer(1).vectors == _vectors(["a", "b", "c", "d"])
    assert bench.answer(2).sizes == [1]


@pytest.mark.parametrize("texts", [["x" * 65], ["a", "x" * 65], [""], ["a", ""]])
def test_nothing_is_computed_where_one_text_does_not_fit(texts: list[str]) -> None:
    bench = Bench()
    bench.ask(1, texts)
    assert not bench.calls
    answer = bench.answer(1)
    assert (answer.vectors, answer.sizes, answer.window) == ([], [len(text) for text in texts], 64)


def test_vectors_are_scaled_where_that_was_asked_for() -> None:
    bench = Bench()
    bench.ask(1, ["a", "b"], normalize=True)
    while bench.calls:
        bench.turn()
    for scaled, raw in zip(bench.answer(1).vectors, _vectors(["a", "b"]), strict=True):
        numbers, length = array("f", raw), math.hypot(*array("f", raw))
        assert list(array("f", scaled)) == pytest.approx([number / length for number in numbers], rel=1e-6)


def test_a_vector_of_zeros_has_no_length_to_scale_by() -> None:
    zeros = bytes(64)
    assert embedding._scaled(zeros) == zeros


def test_texts_are_read_one_at_a_time_and_all_have_their_turn() -> None:
    bench = Bench()
    bench.embedding.heard(wire.Embed(1, ["a", "b", "c"]))
    bench.embedding.heard(wire.Embed(2, ["x" * 65]))
    turns: list[int] = []
    while bench.aside:
        bench.aside.popleft()()
        turns.append(len(bench.ended))
    assert turns == [0, 1, 1, 1], "the second is over after its only text"
    assert bench.answer(2).sizes == [65]
    while bench.calls:
        bench.turn()
    assert bench.answer(1).vectors == _vectors(["a", "b", "c"])


def test_a_cancel_ends_the_reading() -> None:
    bench = Bench()
    bench.embedding.heard(wire.Embed(1, ["a", "b", "c"]))
    bench.aside.popleft()()
    bench.embedding.cancel(1)
    bench.aside.popleft()()
    assert not bench.aside and not bench.calls
    assert [(command, type(what)) for command, what in bench.ended] == [(1, Cancelled)]


def test_tokens_that_wait_are_small_and_of_what_does_not_fit_none_wait() -> None:
    bench = Bench()
    bench.embedding.heard(wire.Embed(1, ["ab", "cd", "x" * 65, "ef", "gh"]))
    order = bench.embedding._known[1]
    held: list[int] = []
    while bench.aside:
        bench.aside.popleft()()
        held.append(sum(tokens.itemsize * len(tokens) for tokens in order.read))
    assert held == [8, 16, 0, 0, 0]


def test_no_texts_have_no_vectors() -> None:
    bench = Bench()
    bench.ask(1, [])
    while bench.calls:
        bench.turn()
    assert bench.answer(1).vectors == []


def test_a_cancel_ends_its_own_command_only() -> None:
    bench = Bench()
    bench.ask(1, ["a", "b"])
    bench.ask(2, ["c", "d"])
    bench.turn()
    bench.turn()
    bench.embedding.cancel(1)
    bench.embedding.cancel(77)
    while bench.calls:
        bench.turn()
    assert [command for command, _ in bench.ended] == [1, 2]
    assert isinstance(bench.ended[0][1], Cancelled)
    assert bench.answer(2).vectors == _vectors(["c", "d"])


def test_a_stop_ends_all_commands() -> None:
    bench = Bench()
    for command in (1, 2):
        bench.ask(command, ["a"])
    bench.embedding.stop()
    while bench.calls:
        bench.turn()
    assert [(command, type(what)) for command, what in bench.ended] == [(1, Cancelled), (2, Cancelled)]


def test_an_abort_that_came_too_late_does_not_end_another_command() -> None:
    bench = Bench()
    bench.ask(1, ["a"])
    bench.turn()
    embedder = bench.embedding._embedder
    assert embedder is not None
    embedder.abort()
    while bench.calls:
        bench.turn()
    assert bench.answer(1).vectors == _vectors(["a"])


def test_what_was_not_used_for_a_while_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    assert bench.embedding.idle() is None
    bench.ask(1, ["a"])
    while bench.calls:
        bench.turn()
    left = bench.embedding.idle()
    assert left is not None and 0 < left <= embedding.RESTS_AFTER_S
    rested: list[bool] = []
    embedder = bench.embedding._embedder
    assert embedder is not None
    monkeypatch.setattr(embedder, "rest", lambda: rested.append(True))
    monkeypatch.setattr(embedding, "RESTS_AFTER_S", 0.0)
    assert bench.embedding.idle() is None
    assert bench.embedding.idle() is None
    assert rested == [True]


@pytest_asyncio.fixture
async def engine() -> AsyncGenerator[Engine, None]:
    """With batches and texts of three milliseconds."""
    name = "scripted-kv:embed,step_ms=3"
    process = await EngineProcess.start()
    yield await Engine.load(process, "scripted-kv", name, ModelSettings(), lambda _: None)
    await process.stop(patience=0.5)


async def test_answers_go_on_while_vectors_are_made(engine: Engine) -> None:
    await engine.open("it", "arena", ContextSettings(num_ubatch=64))
    texts = [f"text {index}" for index in range(300)]
    vectors = asyncio.create_task(engine.embed(texts))
    await engine.pieces([65])  # the command before it was taken
    prompt = [1] * 10
    events = [
        event async for event in engine.generate("it", prompt, Generation(Sampling(), 12), lambda _: None)
    ]
    assert not vectors.done(), "the answer waited for all texts"
    tokens = [token for event in events if isinstance(event, wire.Piece) for token in event.tokens]
    assert tokens == fresh_answer(prompt, 12)
    assert len((await vectors).vectors) == 300
    await engine.check()


async def test_a_caller_who_goes_away_ends_the_work(engine: Engine) -> None:
    vectors = asyncio.create_task(engine.embed(["text"] * 1000))
    await engine.pieces([65])
    vectors.cancel()
    with pytest.raises(asyncio.CancelledError):
        await vectors
    assert not engine.process._waiting
    [one], [two] = [(await engine.embed([text])).vectors for text in ("a", "a")]
    assert one == two
