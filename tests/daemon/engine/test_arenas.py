"""Arenas: how many cells they take, when they give them back, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_answer, fresh_logits, load

from sessiond.adapters.base import BackendError, ContextSettings, Sampling
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.daemon.engine import arenas as arenas_module
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.arenas import WINDOWS, Arenas, NoMemory
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Reuse, Work

WINDOW = 32


class _Engine:
    """Arenas and a loop, as in an engine process, and what was told."""

    def __init__(self, model: str = "scripted-kv:", tier: int = 1 << 20) -> None:
        self.model = load(model)
        self.tier = MemoryTier(tier)
        self.told: list[wire.AnyEvent] = []
        self.arenas = Arenas(self.model, self.tier, self.told.append)
        self._loop = Driven(Loop())

    def open(
        self, branch: str, arena: str = "it", *, parent: str = "", cells: int = 0, limit: int = 0
    ) -> wire.Opened:
        settings = ContextSettings(num_ctx=WINDOW, num_cells=cells)
        opened = self.arenas.open(wire.Open(1, branch, arena, settings, parent, limit))
        self.after_turn()
        return opened

    def after_turn(self) -> None:
        self.arenas.after_turn(self._loop.loop.busy_branches())

    def advance(self, branch: str, tokens: list[int]) -> Reuse:
        arena = self.arenas.of(branch)
        reuse: Reuse = self._result(arena, arena.advance(branch, tokens, lambda _done, _total: None))
        return reuse

    def answer(self, branch: str, tokens: list[int]) -> list[int]:
        found: list[int] = []
        arena = self.arenas.of(branch)
        self._result(arena, arena.generate(branch, tokens, Sampling(), 5, found.append), Rank.DECODE)
        return found

    def logits(self, branch: str, tokens: list[int]) -> bytes:
        arena = self.arenas.of(branch)
        found: bytes = self._result(arena, arena.logits(branch, tokens))
        return found

    def _result(self, arena: Arena, work: Work[Any], rank: Rank = Rank.PREFILL) -> Any:
        _, outcome = self._loop.submit(arena, work, rank)
        while not outcome.over:
            arena.rates._compute, arena.rates._restore = 1e3, 1e9  # restoring pays, whatever was measured
            self._loop.loop.turn()
            self.after_turn()
        arena.rates._compute = 1e3
        assert outcome.error is None
        return outcome.value

    def context(self, branch: str) -> ScriptedKv:
        arena = self.arenas.of(branch)
        assert isinstance(arena, KvArena) and isinstance(arena._context, ScriptedKv)
        return arena._context

    def heard(self) -> list[wire.AnyEvent]:
        """What was told since the last call."""
        told, self.told[:] = list(self.told), []
        return told


def _state(arena: str, cells: int, *, gone: bool = False) -> wire.ArenaState:
    return wire.ArenaState(wire.UNASKED, arena, cells, cells * CELL_BYTES, gone)


@pytest.mark.parametrize(
    ("cells", "limit", "taken"),
    [
        (0, 0, WINDOWS * WINDOW),
        (0, 3 * WINDOW * CELL_BYTES, WINDOWS * WINDOW),
        (0, 40 * CELL_BYTES + 1, 40),
        (0, WINDOW * CELL_BYTES, WINDOW),
        (100, 0, 100),
        (100, 50 * CELL_BYTES, 50),
        (WINDOW, 1 << 30, WINDOW),
    ],
)
def test_an_arena_takes_what_it_can_use_and_memory_allows(cells: int, limit: int, taken: int) -> None:
    engine = _Engine()
    opened = engine.open("one", cells=cells, limit=limit)
    assert (opened.settings.num_ctx, opened.settings.num_cells) == (WINDOW, taken)
    assert engine.arenas.of("one").cells == engine.context("one").cells == taken
    assert engine.heard() == [_state("it", taken)]


def test_without_memory_for_one_window_nothing_is_made() -> None:
    engine = _Engine()
    with pytest.raises(NoMemory, match=str(WINDOW * CELL_BYTES)):
        engine.open("one", limit=WINDOW * CELL_BYTES - 1)
    assert engine.heard() == []
    with pytest.raises(BackendError, match="no branch one"):
        engine.arenas.of("one")
    engine.open("one")
    engine.open("two", limit=1)  # in an arena that stands
    assert engine.heard() == [_state("it", WINDOWS * WINDOW)]


def test_a_backend_without_cells_takes_none() -> None:
    engine = _Engine("scripted-prompt:")
    assert engine.open("one", limit=1).cell_bytes == 0
    assert engine.heard() == [_state("it", 0)]


def test_branches_of_one_arena_share_and_those_of_two_do_not() -> None:
    engine = _Engine()
    for branch, arena in (("one", "a"), ("two", "a"), ("three", "b")):
        engine.open(branch, arena)
        engine.advance(branch, [1] * 10)
    assert engine.arenas.of("one") is engine.arenas.of("two") is not engine.arenas.of("three")
    assert engine.context("one").used_cells == engine.context("three").used_cells == 10


def test_a_fork_stands_where_its_parent_stands() -> None:
    engine = _Engine()
    engine.open("one")
    engine.advance("one", [1] * 10)
    engine.open("two", parent="one")
    assert engine.arenas.of("two").tokens("two") == [1] * 10
    assert engine.context("one").used_cells == 10
    for arena, parent in (("it", "none"), ("other", "one")):
        with pytest.raises(BackendError, match="no branch"):
            engine.open("three", arena, parent=parent)
    assert _state("other", WINDOWS * WINDOW) not in engine.heard()


def test_the_last_branch_takes_its_arena_with_it() -> None:
    engine = _Engine()
    engine.open("one")
    engine.open("two")
    engine.advance("one", [1] * 10)
    context = engine.context("one")
    engine.arenas.park("it")
    assert engine.tier.used > 0
    engine.heard()
    engine.arenas.close("one")
    assert engine.heard() == []
    for _ in range(2):
        engine.arenas.close("two")
    assert engine.heard() == [_state("it", 0, gone=True)]
    assert context.closed and engine.tier.used == 0


def test_an_idle_arena_gives_its_cells_back_and_a_job_takes_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = _Engine()
    engine.open("one")
    engine.advance("one", [1] * 10)
    context = engine.context("one")
    assert engine.arenas.idle() is not None
    engine.after_turn()
    assert engine.context("one") is context
    engine.heard()
    monkeypatch.setattr(arenas_module, "PARKED_AFTER_S", 0.0)
    engine.arenas.idle()
    engine.after_turn()
    assert context.closed and engine.arenas.of("one").parked
    assert engine.heard() == [_state("it", 0), wire.Residence(wire.UNASKED, "one", 0, 10)]
    assert engine.answer("one", [1] * 10) == fresh_answer([1] * 10, 5)
    assert engine.heard() == [_state("it", WINDOWS * WINDOW)]
    engine.arenas.of("one").check_integrity()


def test_an_idle_engine_sheds_what_nobody_holds_one_piece_at_a_time() -> None:
    engine = _Engine()
    branches = ("two", "three", "four")
    for word, branch in enumerate(branches, 2):
        engine.open(branch)
        engine.advance(branch, [1] * 4 + [word] * 8)
    for branch in branches:
        engine.advance(branch, [1] * 4)
    pauses = [engine.arenas.idle() for _ in range(4)]
    assert pauses == [0.0, 0.0, 0.0, arenas_module.CHECKED_EVERY_S]
    reuse = engine.advance("two", [1] * 4 + [2] * 8)
    assert reuse.restored == 8
    engine.arenas.of("two").check_integrity()


def test_what_was_left_makes_room_before_new_tokens_take_cells() -> None:
    engine = _Engine()
    engine.open("one")
    for word in range(2, 5):
        engine.advance("one", [1] * 4 + [word] * 8)
    engine.advance("one", [1] * 4)
    assert engine.arenas.idle() == 0.0  # the last one alone was still in the cells
    assert engine.arenas.idle() == arenas_module.CHECKED_EVERY_S
    for word in range(2, 5):
        assert engine.advance("one", [1] * 4 + [word] * 8).restored == 8
    engine.arenas.of("one").check_integrity()


@pytest.mark.parametrize("busy", [True, False])
def test_an_arena_is_not_idle_while_a_job_runs(busy: bool) -> None:
    engine = _Engine()
    engine.open("one")
    engine.arenas._places["it"].used -= 2 * arenas_module.PARKED_AFTER_S  # so long ago did the job begin
    engine.arenas.after_turn({"one"} if busy else ())
    engine.arenas.idle()
    assert engine.arenas.of("one").parked != busy


@pytest.mark.parametrize("model", ["scripted-kv:", "scripted-kv:no_truncate"])
@pytest.mark.parametrize("tier", [0, 1 << 20])
def test_whatever_memory_keeps_a_parked_arena_answers_exactly(model: str, tier: int) -> None:
    engine = _Engine(model, tier)
    held = {"one": [1] * 10, "two": [1] * 5 + [2] * 7, "three": [1] * 12}
    for branch, tokens in held.items():
        engine.open(branch)
        engine.advance(branch, tokens)
    for _ in range(2):
        for branch, tokens in held.items():
            engine.arenas.park("it")
            assert engine.logits(branch, tokens) == fresh_logits(tokens)
            engine.arenas.of(branch).check_integrity()


def test_what_another_branch_moved_is_told_once() -> None:
    engine = _Engine()
    for branch, token in (("one", 1), ("two", 2), ("three", 3)):
        engine.open(branch)
        engine.advance(branch, [token] * 20)
    engine.open("four", parent="three")
    engine.heard()
    engine.advance("three", [3] * 25)  # 5 more: one of the others gives way
    moved = [event for event in engine.heard() if isinstance(event, wire.Residence)]
    assert {event.branch for event in moved} <= {"one", "two", "four"}
    there = {event.branch: (event.resident, event.in_memory) for event in moved}
    assert there.pop("one") == (0, 20)
    assert all(each == (20, 0) for each in there.values())
    assert len(moved) == len({event.branch for event in moved})
    for _ in range(3):
        engine.after_turn()
    engine.advance("three", [3] * 26)
    assert engine.heard() == []
    engine.advance("one", [1] * 20)
    assert wire.Residence(wire.UNASKED, "two", 0, 20) in engine.heard()


def test_a_check_says_where_everything_is() -> None:
    engine = _Engine()
    for branch, arena in (("one", "a"), ("two", "b")):
        engine.open(branch, arena)
        engine.advance(branch, [1] * 10)
    engine.arenas.park("a")
    assert engine.arenas.check() == wire.Checked({"one": (0, 10), "two": (10, 0)}, engine.tier.used)
    engine.context("two").drop(0)
    with pytest.raises(AssertionError):
        engine.arenas.check()


def test_cells_that_are_not_what_they_should_be_are_emptied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = _Engine()
    monkeypatch.setattr(arenas_module, "CHECKED_EVERY_S", 0.0)
    for branch in ("one", "two"):
        engine.open(branch)
        engine.advance(branch, [1] * 10 + [2] * 5)
    engine.arenas.idle()
    assert not capsys.readouterr().err
    spoiled = engine.context("one")
    spoiled.truncate(0, 7)
    engine.heard()
    engine.arenas.idle()
    engine.after_turn()
    assert "not what they should be" in capsys.readouterr().err
    assert spoiled.closed and engine.tier.used == 0
    told = engine.heard()
    assert wire.Residence(wire.UNASKED, "one", 0, 0) in told
    assert wire.Residence(wire.UNASKED, "two", 0, 0) in told
    for branch in ("one", "two"):
        assert engine.answer(branch, [1] * 10) == fresh_answer([1] * 10, 5)
    engine.arenas.of("one").check_integrity()
