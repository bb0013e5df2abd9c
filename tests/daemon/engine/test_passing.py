"""Branches of which only the beginning outlives them: what they leave, in the cells, in memory and on the disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_answer, kv_context, load
from tests.daemon.engine.tree_facts import check_cells, check_tier
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import ContextSettings, ModelSettings, Sampling
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.arenas import Arenas, Disk
from sessiond.daemon.engine.disk import DiskTier
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier

BODY = [7 * index % 200 + 1 for index in range(80)]
_TOKENS = st.lists(st.integers(0, 3), max_size=10)


class _Bench:
    """One arena whose backend counts, driven by hand."""

    def __init__(self, model: str = "scripted-kv:", num_ctx: int = 256) -> None:
        self.model = load(model)
        self.watched = Watched(kv_context(self.model, num_ctx=num_ctx))
        self.tier = MemoryTier(1 << 20)
        self.arena = KvArena(self.model, self.watched.as_context(), self.tier)
        self._driven = Driven(Loop())

    def advance(self, branch: str, tokens: list[int]) -> None:
        self._driven.result(self.arena, self.arena.advance(branch, tokens, lambda _done, _total: None))

    def answer(self, branch: str, tokens: list[int], most: int) -> list[int]:
        found: list[int] = []
        self._driven.result(
            self.arena,
            self.arena.generate(branch, tokens, Sampling(), most, found.append),
        )
        return found

    def check(self) -> None:
        tree = self.arena._tree
        check_cells(tree, self.watched.real)
        check_tier([tree], self.tier)

    @property
    def used(self) -> int:
        return self.watched.real.used_cells


@pytest.mark.parametrize("model", ["scripted-kv:", "scripted-kv:no_truncate"])
@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(_TOKENS, st.integers(0, 4)), min_size=1, max_size=6),
    body=st.integers(1, 12),
    left=_TOKENS,
)
def test_calls_leave_the_body_and_what_was_there(
    model: str, calls: list[tuple[list[int], int]], body: int, left: list[int]
) -> None:
    """Also where they run side by side, are equal, or go along what a session left behind."""
    bench = _Bench(model)
    bench.arena.open("session")
    bench.advance("session", BODY[:body] + left)
    bench.arena.open("body")
    bench.advance("body", BODY[:body])
    before = bench.used
    for index, (argument, _most) in enumerate(calls):
        bench.arena.open(f"call {index}", None, body)
        bench.advance(f"call {index}", BODY[:body] + argument)
        bench.check()
    for index, (argument, most) in enumerate(calls):
        target = BODY[:body] + argument
        assert bench.answer(f"call {index}", target, most) == fresh_answer(target, most)
    for index in random.Random(1).sample(range(len(calls)), len(calls)):
        bench.arena.close(f"call {index}")
        bench.check()
    assert (
        bench.used == before or "no_truncate" in model
    )  # where nothing can be cut, a part of a run stays whole
    assert bench.arena._tree.keeps == {}
    for branch, tokens in (("session", BODY[:body] + left), ("body", BODY[:body])):
        assert bench.arena.residence(branch)[0] == len(tokens) == len(bench.arena.tokens(branch))


def test_a_call_without_a_body_keeps_what_it_is_told_to() -> None:
    bench = _Bench()
    bench.arena.open("call", None, 30)
    bench.advance("call", BODY)
    bench.arena.close("call")
    bench.check()
    assert (bench.used, bench.arena._tree.match(BODY)) == (30, 30)
    assert bench.tier.movements.dropped == len(BODY) - 30


def test_what_went_to_memory_meanwhile_goes_too() -> None:
    bench = _Bench()
    bench.arena.open("body")
    bench.advance("body", BODY[:30])
    bench.arena.open("call", None, 30)
    bench.advance("call", BODY)
    bench.arena.rates._compute, bench.arena.rates._restore = 1.0, 1e9  # memory pays, whatever was measured
    bench.arena._tree.leave_cells()
    assert bench.tier.used
    bench.arena.close("call")
    assert [len(node.tokens) for node in bench.arena._tree.root.below() if node.kept] == [30]
    check_tier([bench.arena._tree], bench.tier)


def test_a_branch_is_passing_also_after_its_arena_was_emptied() -> None:
    bench = _Bench()
    bench.arena.open("call", None, 30)
    bench.advance("call", BODY)
    bench.arena.reset()
    bench.advance("call", BODY)
    bench.arena.close("call")
    assert bench.used == 30


@settings(max_examples=30, deadline=None)
@given(turns=st.lists(st.tuples(_TOKENS, st.integers(0, 5), st.booleans()), min_size=1, max_size=6))
def test_what_is_computed_is_counted(turns: list[tuple[list[int], int, bool]]) -> None:
    """By the backend's own batches: also what was there already, and what is cut short."""
    bench = _Bench()
    bench.arena.open("it")
    for argument, most, whole in turns:
        bench.answer("it", BODY[: len(argument) or 1] + argument, most) if whole else bench.advance(
            "it", argument
        )
    assert bench.tier.movements.computed == sum(bench.watched.batches)


def test_nothing_of_a_call_goes_to_the_disk(tmp_path: Path) -> None:
    """Neither while it runs nor after it; what it shares with others does."""
    tier = DiskTier(tmp_path, 1 << 30, lambda _said: None, keep_free=0)
    assert tier.wait_open(20.0)
    kept = Disk(tier, ModelSettings(), "me", lambda: None)
    arenas = Arenas(load("scripted-kv:"), MemoryTier(1 << 20), lambda _event: None, kept)
    driven = Driven(Loop())

    def advance(branch: str, tokens: list[int], keeps: int | None) -> None:
        arenas.open(wire.Open(1, branch, "it", ContextSettings(num_ctx=512), keeps=keeps))
        arena = arenas.of(branch)
        driven.result(arena, arena.advance(branch, tokens, lambda _done, _total: None))

    advance("body", BODY, None)
    assert arenas.flush(20.0)
    written = tier.facts().counts.kv_bytes
    assert written > 0
    advance("call", BODY + BODY[::-1], len(BODY))
    assert arenas.flush(20.0)
    assert tier.facts().counts.kv_bytes == written
    arenas.close("call")
    assert arenas.flush(20.0)
    assert tier.facts().counts.kv_bytes == written
    advance("session", BODY + BODY[::-1], None)
    assert arenas.flush(20.0)
    assert tier.facts().counts.kv_bytes > written
    arenas.shut()
