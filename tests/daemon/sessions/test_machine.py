"""Sessions in any order of turns, forks, cancels, closes and shortages, against a naive model of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.daemon.sessions.oracle import EngineOracle, Oracle, ScriptedOracle
from tests.daemon.sessions.world import Kind, Turn, World

from sessiond.daemon.catalog import ModelCatalog

_TEXT = st.lists(st.integers(0, 3), max_size=5)
"""By the numbers of its words."""


class _Asked(NamedTuple):
    """A turn."""

    kind: str
    """"prefix", "suffix", "replace", "decode" or "complete"."""
    texts: list[list[int]]
    text: list[int]
    most: int


_KINDS = st.sampled_from(["prefix", "suffix", "replace", "decode", "complete"])
_TURN = st.builds(_Asked, _KINDS, st.lists(_TEXT, max_size=4), _TEXT, st.integers(1, 8))
_TURNS = st.lists(_TURN, min_size=4, max_size=4)
_SHARE = st.floats(0, 2)
"""Of a moment, after which a turn is cut short."""


class Machine(RuleBasedStateMachine):
    """All sessions of all examples live in one world, which is empty between two of them.

    What is drawn never depends on how turns went: threads and a second process take part, and Hypothesis
    takes a machine that draws differently on the same history for a fault.
    """

    world: ClassVar[World]
    runner: ClassVar[asyncio.Runner]
    opened: ClassVar[int] = 0
    sessions: Bundle[str] = Bundle("sessions")

    def _names(self, count: int = 1) -> list[str]:
        type(self).opened += count
        return [f"session {self.opened - index}" for index in range(count)]

    def _turn(self, asked: _Asked) -> Turn:
        words = self.world.kind.words
        text, *texts = ("".join(words[index] for index in each) for each in (asked.text, *asked.texts))
        makers: dict[str, Callable[[], Turn]] = {
            "prefix": lambda: self.world.prefix(texts),
            "suffix": lambda: self.world.suffix(text),
            "replace": lambda: self.world.suffix(text, replace=True),
            "decode": lambda: self.world.decode(asked.most),
            "complete": lambda: self.world.complete(texts[:2], text, asked.most),
        }
        return makers[asked.kind]()

    def _moment(self, share: float) -> float:
        return share * self.world.kind.moment_s

    @precondition(lambda self: len(self.world.sessions) < 6)
    @rule(target=sessions, root=st.sampled_from(["/one", "/two"]))
    def open(self, root: str) -> str:
        [name] = self._names()
        self.runner.run(self.world.open(name, root))
        return name

    @precondition(lambda self: not self.world.sessions)
    @rule(target=sessions)
    def open_both(self) -> MultipleResults[str]:
        names = self._names(2)
        self.runner.run(self.world.open_both(*names))
        return multiple(*names)

    @precondition(lambda self: len(self.world.sessions) < 6)
    @rule(target=sessions, parent=sessions)
    def fork(self, parent: str) -> str:
        [name] = self._names()
        self.runner.run(self.world.fork(name, parent))
        return name

    @rule(name=consumes(sessions))
    def close(self, name: str) -> None:
        self.runner.run(self.world.close(name))

    @rule(name=consumes(sessions), turn=_TURN, share=_SHARE)
    def close_within_a_turn(self, name: str, turn: _Asked, share: float) -> None:
        self.runner.run(self.world.close_within(name, self._turn(turn), self._moment(share)))

    @rule(name=sessions, turn=_TURN)
    def take(self, name: str, turn: _Asked) -> None:
        self.runner.run(self.world.take(name, self._turn(turn)))

    @rule(names=st.lists(sessions, min_size=2, max_size=4, unique=True), turns=_TURNS)
    def take_together(self, names: list[str], turns: list[_Asked]) -> None:
        taken = {name: self._turn(turn) for name, turn in zip(names, turns, strict=False)}
        self.runner.run(self.world.take_together(taken))

    @rule(name=sessions, turn=_TURN, share=_SHARE)
    def cancel(self, name: str, turn: _Asked, share: float) -> None:
        self.runner.run(self.world.cancel(name, self._turn(turn), self._moment(share)))

    @rule()
    def give_way(self) -> None:
        self.runner.run(self.world.give_way())

    @rule(name=sessions)
    def compare_logits(self, name: str) -> None:
        self.runner.run(self.world.check_logits(name))

    @invariant()
    def agrees(self) -> None:
        self.runner.run(self.world.check())

    def teardown(self) -> None:
        try:
            self.runner.run(self.world.clear())
        except BaseException:
            # Or the next example would fail at its first step, and Hypothesis would tell of that instead.
            self.runner.run(self.world.renew())
            raise


def _run(kind: Kind, oracle: Oracle, *, examples: int, steps: int) -> int:
    """How many steps were taken."""
    budget = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        # Threads and a second process take part: no history can be played twice.
        phases=[Phase.generate],
    )
    with asyncio.Runner() as runner:
        world = World(kind, oracle)
        machine = type("Machine", (Machine,), {"world": world, "runner": runner})
        try:
            run_state_machine_as_test(machine, settings=budget)
        finally:
            runner.run(world.stop())
    assert world.turns > examples
    return world.steps


_SCRIPTED = "scripted-kv:step_ms=0.3"
_CELL = 20
"""Bytes of a scripted cell."""
_KINDS_OF_WORLD = {
    "with room for all": Kind(_SCRIPTED),
    "few cells, one workspace at a time": Kind(f"{_SCRIPTED},max_sequences=3", most_bytes=100 * _CELL),
    "few cells and little memory": Kind(
        f"{_SCRIPTED},max_sequences=4", most_bytes=200 * _CELL, memory_tier=1000, may_be_full=True
    ),
    "no sequence can be cut": Kind(f"{_SCRIPTED},no_truncate", most_bytes=100 * _CELL),
}


@pytest.mark.parametrize("kind", _KINDS_OF_WORLD)
def test_any_history_of_sessions_is_that_of_the_model(kind: str) -> None:
    assert _run(_KINDS_OF_WORLD[kind], ScriptedOracle(), examples=100, steps=50) > 1000


_SMOLLM2_CELL = 23_040
"""Bytes of KV for each token, in 16 bits."""


@pytest.mark.model
def test_any_history_of_sessions_on_a_real_model() -> None:
    """Each answer is that of a fresh context, and the logits are, bit for bit."""
    kind = Kind(
        asyncio.run(ModelCatalog("", []).resolve("")),
        words=("def path(name):\n", "    return self", " # TODO 東京", "import "),
        moment_s=0.05,
        window=128,
        num_ubatch=32,
        most_bytes=200 * _SMOLLM2_CELL,
        memory_tier=1 << 30,
        deterministic=True,
    )
    assert _run(kind, EngineOracle(), examples=12, steps=30) > 200
