"""KV that outlives its engine: what goes to the disk when nobody waits, and what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import kv_context, load

from sessiond.adapters.base import (
    BackendError,
    ContextSettings,
    LoraSettings,
    ModelSettings,
    Run,
)
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.allowance import Allowance
from sessiond.daemon.engine.arenas import CHECKED_EVERY_S, LEFT_S, PASSING_SHARE, Arenas, Disk
from sessiond.daemon.engine.disk import DiskTier
from sessiond.daemon.engine.disk.keys import LEAST
from sessiond.daemon.engine.disk.writer import HELD_PAUSE_S
from sessiond.daemon.engine.disk_link import DiskLink
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import FETCH_PATIENCE_S, Receive, Reuse, Work

WINDOW = 2048
_PATIENCE_S = 20.0
LONG = [7 * index % 200 + 1 for index in range(1200)]


def fresh_logits(tokens: list[int]) -> bytes:
    """The logits after these tokens, by a context that has seen nothing else."""
    context = kv_context(load("scripted-kv:"), num_ctx=WINDOW, num_batch=WINDOW)
    context.decode([Run(0, 0, tokens, want_logits=True)])
    return context.logits(0)


class _Engine:
    """Arenas over a disk, driven by hand; another one over the same folder is the engine after it."""

    def __init__(
        self,
        folder: Path,
        *,
        model: str = "scripted-kv:",
        loading: ModelSettings | None = None,
        user: str = "me",
        queue_bytes: int = 1 << 28,
    ) -> None:
        self.said: list[str] = []
        self.told: list[wire.AnyEvent] = []
        self.loop = Loop()
        self.disk = DiskTier(folder, 1 << 30, self.said.append, keep_free=0, queue_bytes=queue_bytes)
        kept = Disk(self.disk, loading or ModelSettings(), user, lambda: self.loop.call(lambda: None))
        self.arenas = Arenas(load(model), MemoryTier(1 << 20), self.told.append, kept)
        assert self.disk.wait_open(_PATIENCE_S)
        self._driven = Driven(self.loop)

    def open(self, branch: str, *, arena: str = "it", workspace: str = "/w", num_ctx: int = WINDOW) -> None:
        settings = ContextSettings(num_ctx=num_ctx)
        self.arenas.open(wire.Open(1, branch, arena, settings, workspace=workspace))
        place = self.arenas.of(branch)
        place.rates._compute, place.rates._fetch = 1e3, 1e9  # the disk pays, whatever was measured

    def advance(self, branch: str, tokens: list[int]) -> Reuse:
        arena = self.arenas.of(branch)
        reuse: Reuse = self.result(branch, arena.advance(branch, tokens, lambda _done, _total: None))
        assert (reuse.reused + reuse.restored + reuse.prefilled) == len(tokens)
        return reuse

    def logits(self, branch: str, tokens: list[int]) -> bytes:
        found: bytes = self.result(branch, self.arenas.of(branch).logits(branch, tokens))
        return found

    def result(self, branch: str, work: Work[Any], rank: Rank = Rank.PREFILL) -> Any:
        arena = self.arenas.of(branch)
        _, outcome = self._driven.submit(arena, work, rank)
        until = time.monotonic() + _PATIENCE_S
        while not outcome.over:
            assert time.monotonic() < until
            arena.rates._compute = 1e3
            self.loop.turn()
        arena.check_integrity()
        assert outcome.error is None
        return outcome.value

    def tree(self, branch: str) -> Any:
        return self.kv(branch)._tree

    def kv(self, branch: str) -> KvArena:
        arena = self.arenas.of(branch)
        assert isinstance(arena, KvArena)
        return arena

    def link(self, branch: str) -> DiskLink:
        link = self.kv(branch)._disk
        assert link is not None
        return link

    def gone(self) -> list[str]:
        """Arenas that were given back."""
        return [each.arena for each in self.told if isinstance(each, wire.ArenaState) and each.gone]

    def end(self) -> None:
        assert self.arenas.flush(_PATIENCE_S)
        self.disk.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


def _leave_on_disk(folder: Path) -> None:
    """An engine that computes LONG, writes it, and ends."""
    first = _Engine(folder)
    first.open("one")
    assert first.advance("one", LONG).prefilled == len(LONG)
    first.end()


def test_the_next_engine_computes_nothing_again(folder: Path) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    reuse = second.advance("one", LONG)
    assert (reuse.reused, reuse.restored, reuse.prefilled) == (0, len(LONG), 0)
    assert second.logits("one", LONG) == fresh_logits(LONG)
    second.end()
    assert second.said == []


def test_where_the_ways_part_the_rest_is_computed(folder: Path) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    other = [*LONG[:700], *([3] * 100)]
    reuse = second.advance("one", other)
    assert (reuse.reused, reuse.restored, reuse.prefilled) == (0, 700, 100)
    assert second.logits("one", other) == fresh_logits(other)
    second.end()
    third = _Engine(folder)
    third.open("one")
    assert third.advance("one", other).prefilled == 0
    assert third.advance("one", LONG).prefilled == 0
    assert third.logits("one", LONG) == fresh_logits(LONG)
    third.end()


_SHARED = 5
"""Tokens with which texts begin alike, as a chat template has them: too few to be an entry."""
_OTHER = [*LONG[:_SHARED], *([11 * index % 199 + 1 for index in range(595)])]


@pytest.mark.parametrize("model", ["scripted-kv:", "scripted-kv:max_sequences=1"])
def test_of_an_entry_that_begins_before_where_the_ways_parted_the_rest_comes_back(
    folder: Path, model: str
) -> None:
    first = _Engine(folder, model=model)
    for branch, tokens in (("one", LONG), ("two", _OTHER)):
        first.open(branch)
        first.advance(branch, tokens)
        assert first.arenas.flush(_PATIENCE_S)
    first.end()
    second = _Engine(folder, model=model)
    second.open("one")
    second.open("two")
    assert second.advance("one", LONG).prefilled == 0
    reuse = second.advance("two", _OTHER)
    assert (reuse.reused, reuse.restored, reuse.prefilled) == (_SHARED, len(_OTHER) - _SHARED, 0)
    assert second.logits("two", _OTHER) == fresh_logits(_OTHER)
    assert second.logits("one", LONG) == fresh_logits(LONG)
    second.end()
    assert second.said == [] and second.disk.facts().counts.written == 0


def test_of_an_entry_that_begins_too_early_and_goes_another_way_the_middle_comes_back(folder: Path) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    second.advance("one", LONG[:100])  # the entry is brought back whole, and its rest is given up again
    tree = second.tree("one")
    tree.evict_all()
    for gone in list(tree.tips["one"].children.values()):
        tree.discard(gone)
    assert tree.cells.used == 100
    other = [*LONG[:200], *([3] * 30)]
    reuse = second.advance("one", other)
    assert (reuse.reused, reuse.restored, reuse.prefilled) == (100, 100, 30)
    assert second.logits("one", other) == fresh_logits(other)
    second.end()


def test_an_entry_counts_for_what_it_brings_and_not_for_all_that_is_read(folder: Path) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    asked = list[tuple[int, int]]()

    def pays(brings: int, has: int) -> bool:
        asked.append((brings, has))
        return brings > 100

    found = second.link("one").way(LONG, 200, set(), pays)
    assert asked[:2] == [(56, 256), (256, 256)] and found[0].start == 256
    second.disk.close()


@pytest.mark.parametrize(
    "stands",
    [
        pytest.param([3] * 40, id="another way"),
        pytest.param([*LONG[:39], 3], id="another token before it"),
        pytest.param(LONG[:256], id="all of it"),
    ],
)
def test_what_does_not_go_on_from_where_a_branch_stands_is_not_taken(folder: Path, stands: list[int]) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    arena, store = second.kv("one"), second.disk._store
    found = second.disk.ahead(second.link("one").space, LONG, 0)[0]
    payload = store.get(found) if store is not None else None
    assert payload is not None
    arena._reach._disk = None  # nothing comes back by itself
    second.advance("one", stands)
    wish = Receive("one", LONG, found, payload, 0.0, 0.0)
    assert arena.compute([wish], ["one"]) == [None] and wish.tried
    assert second.tree("one").cells.used == len(stands)
    assert second.logits("one", stands) == fresh_logits(stands)
    second.disk.close()


def test_an_idle_engine_writes_bit_by_bit_and_nothing_twice(folder: Path) -> None:
    engine = _Engine(folder)
    engine.open("one")
    engine.open("two")
    engine.advance("one", LONG)
    engine.advance("two", [*LONG[:600], *([5] * 300)])
    until = time.monotonic() + _PATIENCE_S
    while engine.arenas.idle() != 60.0 or engine.disk.facts().waiting_bytes:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert engine.disk.flush(_PATIENCE_S)  # the last one may be under way
    facts = engine.disk.facts()
    assert facts.entries >= 5
    cell = engine.arenas.of("one").cell_bytes
    new = (len(LONG) + 300) * cell
    assert new <= facts.counts.kv_bytes <= 1.1 * new
    assert engine.arenas.idle() == 60.0
    engine.end()
    assert facts.counts.written == facts.entries


def test_all_of_a_context_with_one_sequence_is_written(folder: Path) -> None:
    """No sequence is free to be lent for a piece."""
    model = "scripted-kv:max_sequences=1"
    first = _Engine(folder, model=model)
    first.open("one")
    first.advance("one", LONG)
    first.end()
    assert first.disk.facts().counts.kv_bytes >= len(LONG) * CELL_BYTES
    second = _Engine(folder, model=model)
    second.open("one")
    assert second.advance("one", LONG).prefilled == 0
    assert second.logits("one", LONG) == fresh_logits(LONG)
    second.end()


@given(
    st.sampled_from([1, 2, 3]),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 700), st.integers(1, 300)), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=20)
def test_what_is_written_is_what_a_fresh_context_has_there(
    tmp_path_factory: pytest.TempPathFactory, sequences: int, moves: list[tuple[int, int, int]]
) -> None:
    """Two branches that part and meet anywhere, written as they go, with as few sequences as may be."""
    folder = tmp_path_factory.mktemp("kv")
    engine = _Engine(folder, model=f"scripted-kv:max_sequences={sequences}")
    engine.open("0")
    engine.open("1")
    ways = [[*LONG[:at], *([at % 7 + 1] * count)] for _, at, count in moves]
    for (branch, _, _), way in zip(moves, ways, strict=True):
        engine.advance(str(branch), way)
        assert engine.arenas.flush(_PATIENCE_S)
    _check_entries(engine, ways)
    engine.end()
    for way in ways:
        second = _Engine(folder)
        second.open("0")
        assert second.advance("0", way).prefilled < LEAST
        assert second.logits("0", way) == fresh_logits(way)
        second.end()


def _check_entries(engine: _Engine, ways: list[list[int]]) -> None:
    link, store, seen = engine.link("0"), engine.disk._store, 0
    assert store is not None
    for way in ways:
        fresh = kv_context(load("scripted-kv:"), num_ctx=WINDOW, num_batch=WINDOW)
        fresh.decode([Run(0, 0, way)])
        for found in engine.disk.ahead(link.space, way, 0):
            if found.matched == found.entry.label.count:
                assert store.get(found) == fresh.save(0, found.start, found.end)
                seen += 1
    assert seen or max(map(len, ways)) < LEAST


def test_what_is_in_memory_alone_is_written_too(folder: Path) -> None:
    first = _Engine(folder)
    first.open("one")
    first.advance("one", LONG)
    first.advance("one", LONG[:40])
    while first.arenas.of("one").shed():
        pass
    assert first.tree("one").cells.used == 40
    first.end()
    second = _Engine(folder)
    second.open("one")
    assert second.advance("one", LONG).prefilled == 0
    second.end()


@pytest.mark.parametrize(
    "changed", [{"workspace": "/other"}, {"user": "you"}, {"model": "scripted-kv:bos=1"}, {"num_ctx": 1024}]
)
def test_nothing_is_found_from_another_space(folder: Path, changed: dict[str, Any]) -> None:
    """Another number of cells is one too: rotary factors may depend on it."""
    tokens = LONG[:900]
    first = _Engine(folder)
    first.open("one")
    first.advance("one", tokens)
    first.end()
    engine = {name: value for name, value in changed.items() if name in {"user", "model"}}
    arena = {name: value for name, value in changed.items() if name not in engine}
    second = _Engine(folder, **engine)
    second.open("one", **arena)
    assert second.advance("one", tokens).prefilled == len(tokens)
    second.end()


def test_with_a_low_rank_adapter_nothing_is_kept(folder: Path) -> None:
    loading = ModelSettings(loras=(LoraSettings("/an/adapter", 1.0),))
    engine = _Engine(folder, loading=loading)
    engine.open("one")
    engine.advance("one", LONG)
    engine.end()
    assert engine.disk.facts().entries == 0


def test_what_the_backend_refuses_is_set_aside_and_computed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    context = second.tree("one").cells.context

    def refuse(*_args: object) -> None:
        raise BackendError("no")

    monkeypatch.setattr(context, "load", refuse)
    assert second.advance("one", LONG).prefilled == len(LONG)
    assert second.logits("one", LONG) == fresh_logits(LONG)
    second.end()
    assert len(list((folder / "aside").iterdir())) > 0
    assert any("refused" in line for line in second.said)


def test_an_entry_that_is_damaged_is_a_miss(folder: Path) -> None:
    _leave_on_disk(folder)
    for path in (folder / "entries").iterdir():
        data = bytearray(path.read_bytes())
        data[-60] ^= 1
        path.write_bytes(data)
    second = _Engine(folder)
    second.open("one")
    assert second.advance("one", LONG).prefilled == len(LONG)
    assert second.logits("one", LONG) == fresh_logits(LONG)
    second.end()


def test_a_disk_that_hangs_holds_nobody_up_and_is_waited_for_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    second.open("two")
    store, release, asked = second.disk._store, threading.Event(), list[Any]()
    assert store is not None

    def hang(found: Any) -> None:
        asked.append(found)
        release.wait(_PATIENCE_S)

    monkeypatch.setattr(store, "get", hang)
    arena = second.arenas.of("one")
    _, slow = second._driven.submit(arena, arena.advance("one", LONG, lambda _done, _total: None))
    second.loop.turn()
    _within(lambda: bool(asked))
    assert second.advance("two", [9] * 40).prefilled == 40  # meanwhile others go on
    assert not slow.over
    real, ahead = time.monotonic, FETCH_PATIENCE_S + 0.1
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead)
    second._driven.until(lambda: slow.over)
    assert slow.error is None and slow.value.prefilled == len(LONG)
    assert len(asked) == 1
    release.set()
    second.disk.close()


def test_what_could_never_wait_to_be_written_stops_nothing_else(folder: Path) -> None:
    engine = _Engine(folder, queue_bytes=300 * 20)
    engine.open("one")
    engine.advance("one", LONG)
    engine.advance("one", LONG[:40])
    engine.arenas.park("it")  # a node of 1,160 tokens is in memory, and one of 40
    engine.end()
    assert engine.disk.facts().counts.written == 1


def test_a_parked_arena_is_written_too(folder: Path) -> None:
    first = _Engine(folder)
    first.open("one")
    first.advance("one", LONG)
    first.arenas.park("it")
    first.end()
    second = _Engine(folder)
    second.open("one")
    assert second.advance("one", LONG).prefilled == 0
    second.end()


# ---- an arena without branches


def test_what_the_last_branch_leaves_is_written_before_its_arena_goes(folder: Path) -> None:
    first = _Engine(folder)
    first.open("one")
    first.advance("one", LONG)
    first.arenas.close("one")
    assert first.gone() == []
    _within(lambda: first.arenas.idle() is None)
    assert first.gone() == ["it"]
    first.end()
    second = _Engine(folder)
    second.open("one")
    assert second.advance("one", LONG).prefilled == 0
    second.end()


def test_who_opens_an_arena_that_is_about_to_go_finds_all_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _Engine(folder)
    engine.open("one")
    engine.advance("one", LONG)
    engine.arenas.close("one")
    engine.open("two")
    reuse = engine.advance("two", LONG)
    assert (reuse.reused, reuse.prefilled) == (len(LONG), 0)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + LEFT_S)
    engine.arenas.after_turn(())
    _within(lambda: engine.arenas.idle() == CHECKED_EVERY_S)
    assert engine.gone() == [] and engine.logits("two", LONG) == fresh_logits(LONG)
    engine.disk.close()


def test_an_arena_without_branches_goes_when_its_time_is_over_though_others_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _Engine(folder)
    engine.open("one")
    engine.open("two", arena="other")
    engine.advance("one", LONG)
    engine.arenas.close("one")
    engine.arenas.after_turn({"two"})
    assert engine.gone() == []
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + LEFT_S)
    engine.arenas.after_turn({"two"})
    assert engine.gone() == ["it"]
    engine.disk.close()


def test_an_arena_without_branches_goes_when_its_memory_is_wanted(folder: Path) -> None:
    engine = _Engine(folder)
    for word, arena in enumerate("abc", 1):
        engine.open("one", arena=arena)
        engine.advance("one", [word] * 500)
        engine.arenas.close("one")
    assert engine.gone() == []
    engine.arenas.park("b")  # as the daemon asks of one that is idle
    assert engine.gone() == ["b"]
    settings = ContextSettings(num_ctx=WINDOW)
    window = WINDOW * CELL_BYTES
    opened = engine.arenas.open(wire.Open(1, "four", "d", settings, kv_limit=window, workspace="/w"))
    assert opened.settings.num_cells == 2 * WINDOW
    assert engine.gone() == ["b", "a"]
    engine.arenas.open(wire.Open(1, "five", "e", settings, kv_limit=2 * window, workspace="/w"))
    assert engine.gone() == ["b", "a"], "there was room beside it"
    engine.end()


def test_without_anything_to_write_an_arena_goes_with_its_last_branch(folder: Path) -> None:
    engine = _Engine(folder)
    engine.open("one")
    engine.advance("one", LONG)
    assert engine.arenas.flush(_PATIENCE_S)
    engine.arenas.close("one")
    assert engine.gone() == ["it"]
    engine.end()


# ---- while jobs run all the time


def test_a_piece_now_and_then_is_written_while_jobs_run(folder: Path) -> None:
    engine = _Engine(folder)
    engine.open("one")
    engine.advance("one", LONG)
    now = 0.0
    engine.arenas._in_passing = Allowance(HELD_PAUSE_S, PASSING_SHARE, lambda: now)
    counts = [engine.disk.facts().entries]
    for _ in range(6):
        now += 1.1 * HELD_PAUSE_S
        for _ in range(3):
            engine.arenas.after_turn({"one"})
        counts.append(engine.disk.facts().entries)
    assert counts == [0, 1, 2, 3, 4, 5, 5]  # all of it, a piece each time
    engine.disk.close()


def test_what_was_given_to_a_backend_counts_as_in_use_until_it_computed_on(folder: Path) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    assert second.advance("one", LONG).prefilled == 0
    arena, link = second.kv("one"), second.link("one")
    assert link._in_use
    arena.write_behind(in_passing=True)
    assert link._in_use
    arena.write_behind()
    assert not link._in_use
    second.end()


def test_a_loop_that_waits_for_the_disk_rests_and_wakes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread, as in an engine: it neither spins nor misses what arrives."""
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    turns, held, fetch = list[None](), list[tuple[Any, Any]](), second.disk.fetch
    monkeypatch.setattr(second.loop, "_after_turn", lambda: turns.append(None))
    monkeypatch.setattr(second.disk, "fetch", lambda found, got: held.append((found, got)))
    arena = second.arenas.of("one")
    _, outcome = second._driven.submit(arena, arena.advance("one", LONG, lambda _done, _total: None))
    thread = threading.Thread(target=second.loop.run)
    thread.start()
    _within(lambda: bool(held))
    time.sleep(0.2)
    assert len(turns) <= 3

    def delivered() -> bool:
        while held:
            fetch(*held.pop())
        return outcome.over

    _within(delivered)
    second.loop.stop()
    thread.join(_PATIENCE_S)
    assert outcome.error is None and outcome.value.prefilled == 0
    second.disk.close()


def test_while_an_entry_is_put_into_cells_the_next_one_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_on_disk(folder)
    second = _Engine(folder)
    second.open("one")
    tree, fetch, receive = second.tree("one"), second.disk.fetch, second.tree("one").receive
    asked, ahead = list[str](), list[int]()

    def asks(found: Any, got: Any) -> None:
        asked.append(found.entry.label.name)
        fetch(found, got)

    def takes(*given: Any) -> Any:
        ahead.append(len(asked) - len(ahead) - 1)
        return receive(*given)

    monkeypatch.setattr(second.disk, "fetch", asks)
    monkeypatch.setattr(tree, "receive", takes)
    assert second.advance("one", LONG).restored == len(LONG)
    assert len(asked) == len(set(asked)) == len(ahead) > 2
    assert ahead == [1] * (len(asked) - 1) + [0]
    second.end()


def _within(ask: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not ask():
        assert time.monotonic() < until
        time.sleep(0.001)
