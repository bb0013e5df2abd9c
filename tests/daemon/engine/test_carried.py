"""KV that goes to a snapshot and comes from one, a piece at a time: the same logits, whatever else the cells hold."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_logits, kv_context, load, prompt_context

from sessiond.adapters.base import (
    BackendError,
    Capabilities,
    ContextSettings,
    ModelSettings,
    NoRoom,
    Unsupported,
)
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.arenas import Arenas, Disk
from sessiond.daemon.engine.carried import can_be_carried
from sessiond.daemon.engine.disk import DiskTier
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.prompt_arena import PromptArena
from sessiond.daemon.engine.work import Taken

TOKENS = [7 * index % 200 + 1 for index in range(100)]


class _Place:
    """An arena of the scripted backend, driven by hand."""

    def __init__(self, *branches: str, cells: int = 256, flags: str = "") -> None:
        model = load(f"scripted-kv:{flags}")
        self.arena = KvArena(
            model, kv_context(model, num_ctx=cells, num_batch=32, num_ubatch=8), MemoryTier(1 << 20)
        )
        self.loop = Driven(Loop())
        for branch in branches:
            self.arena.open(branch)

    def result(self, work: Any) -> Any:
        found = self.loop.result(self.arena, work)
        self.arena.check_integrity()
        return found

    def advance(self, branch: str, tokens: list[int]) -> Any:
        return self.result(self.arena.advance(branch, tokens, lambda _done, _total: None))

    def save(self, branch: str, cuts: list[int], tokens: list[int] = TOKENS) -> list[tuple[int, int, bytes]]:
        borders = [0, *cuts, len(tokens)]
        return [
            (start, end, self.result(self.arena.save(branch, tokens, start, end)))
            for start, end in itertools.pairwise(borders)
        ]

    def load(self, branch: str, pieces: list[tuple[int, int, bytes]], tokens: list[int] = TOKENS) -> None:
        for start, end, payload in pieces:
            cells = self.arena.settings.num_cells
            assert self.result(self.arena.load(branch, tokens[:end], start, cells, payload)).refused == ""

    def logits(self, branch: str, tokens: list[int] = TOKENS) -> bytes:
        found: bytes = self.result(self.arena.logits(branch, tokens))
        return found


_CUTS = st.sets(st.integers(1, len(TOKENS) - 1), max_size=6).map(sorted)


@settings(max_examples=40)
@given(_CUTS, st.integers(0, len(TOKENS)), st.integers(0, len(TOKENS)))
def test_what_was_saved_comes_back_whatever_stands_there(cuts: list[int], parted: int, standing: int) -> None:
    first = _Place("one", "other")
    first.advance("other", [*TOKENS[:parted], 250, 251])
    pieces = first.save("one", cuts)
    second = _Place("one", "other")
    second.advance("other", [*TOKENS[:standing], 252])
    second.load("one", pieces)
    assert second.arena.residence("one") == (len(TOKENS), 0)
    assert second.logits("one") == fresh_logits(TOKENS)
    assert second.logits("other", [*TOKENS[:standing], 252]) == fresh_logits([*TOKENS[:standing], 252])


def test_nothing_is_computed_for_what_comes_back() -> None:
    first, second = _Place("one"), _Place("one", "other")
    second.load("one", first.save("one", [40, 80]))
    reuse = second.advance("other", TOKENS)
    assert (reuse.reused, reuse.prefilled) == (len(TOKENS), 0)
    assert second.loop.result(second.arena, second.arena.logits("one", TOKENS)) == fresh_logits(TOKENS)


def test_forged_kv_answers_otherwise() -> None:
    """Or the tests above would hold for KV that nobody looks at."""
    first, second = _Place("one"), _Place("one")
    others = [251, *TOKENS[1:]]
    second.load("one", first.save("one", [], others))
    assert second.arena.tokens("one") == TOKENS
    assert second.logits("one") != fresh_logits(TOKENS)


def test_kv_of_other_cells_is_computed() -> None:
    first, second = _Place("one"), _Place("one")
    [(start, end, payload)] = first.save("one", [])
    forged = payload[:-1]
    taken = second.result(second.arena.load("one", TOKENS[:end], start, 255, forged))
    assert taken == Taken(len(TOKENS))
    assert second.logits("one") == fresh_logits(TOKENS)


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 5000])
def test_what_the_backend_refuses_is_told_and_changes_nothing(payload: bytes) -> None:
    place = _Place("one")
    place.advance("one", TOKENS[:50])
    assert place.result(place.arena.load("one", TOKENS, 50, 256, payload)).refused != ""
    assert place.arena.tokens("one") == TOKENS[:50]
    assert place.logits("one") == fresh_logits(TOKENS)


def test_a_piece_of_more_or_fewer_tokens_is_refused() -> None:
    [(_, _, payload)] = _Place("one").save("one", [], TOKENS[:50])
    for count in (49, 51):
        place = _Place("one")
        assert place.result(place.arena.load("one", TOKENS[:count], 0, 256, payload)).refused != ""
        assert place.arena.tokens("one") == []


def test_a_piece_that_is_none_is_refused() -> None:
    place = _Place("one")
    for start, end in ((-1, 3), (3, 3), (4, 3), (0, len(TOKENS) + 1)):
        with pytest.raises(BackendError):
            place.result(place.arena.save("one", TOKENS, start, end))
    for start in (-1, len(TOKENS)):
        with pytest.raises(BackendError):
            place.result(place.arena.load("one", TOKENS, start, 256, b"x"))


def test_others_give_way_and_come_back() -> None:
    first = _Place("one")
    pieces = first.save("one", [30, 60])
    place = _Place("one", "idle", cells=128)
    idle = [250] * 100
    place.advance("idle", idle)
    place.load("one", pieces)
    assert place.logits("one") == fresh_logits(TOKENS)
    assert place.logits("idle", idle) == fresh_logits(idle)
    assert place.save("one", [30, 60]) == pieces


def test_more_than_there_are_cells_is_no_room() -> None:
    pieces = _Place("one").save("one", [50])
    place = _Place("one", cells=64)
    with pytest.raises(NoRoom):
        place.result(place.arena.load("one", TOKENS, 0, 64, pieces[0][2]))


def test_one_sequence_will_do() -> None:
    first, second = _Place("one", flags="max_sequences=1"), _Place("one", flags="max_sequences=1")
    second.load("one", first.save("one", [10, 90]))
    assert second.logits("one") == fresh_logits(TOKENS)


def test_a_parked_arena_saves_and_loads(tmp_path: Path) -> None:
    arenas = Arenas(load("scripted-kv:"), MemoryTier(1 << 20), lambda _told: None)
    arenas.open(wire.Open(1, "one", "it", ContextSettings(num_ctx=256)))
    arena, loop = arenas.of("one"), Driven(Loop())
    loop.result(arena, arena.advance("one", TOKENS, lambda _done, _total: None))
    arena.park()
    payload = loop.result(arena, arena.save("one", TOKENS, 0, 100))
    arenas.open(wire.Open(1, "two", "that", ContextSettings(num_ctx=256)))
    other = arenas.of("two")
    other.park()
    assert loop.result(other, other.load("two", TOKENS, 0, other.settings.num_cells, payload)) == Taken(0)
    assert loop.result(other, other.logits("two", TOKENS)) == fresh_logits(TOKENS)


def test_what_stands_apart_never_goes_to_the_disk(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path / "kv", 1 << 30, keep_free=0)
    disk = Disk(tier, ModelSettings(), "me", lambda: None)
    arenas = Arenas(load("scripted-kv:"), MemoryTier(1 << 20), lambda _told: None, disk)
    assert tier.wait_open(20.0)
    loop = Driven(Loop())
    for branch, apart in (("apart", True), ("shared", False)):
        arenas.open(wire.Open(1, branch, branch, ContextSettings(num_ctx=256), workspace="/w", apart=apart))
        arena = arenas.of(branch)
        loop.result(arena, arena.advance(branch, TOKENS, lambda _done, _total: None))
        assert arenas.flush(20.0)
        assert len(list((tmp_path / "kv" / "entries").iterdir())) == (0 if apart else 1)
    arenas.shut()


@pytest.mark.parametrize("work", ["save", "load"])
def test_where_kv_cannot_be_carried_that_is_said(work: str) -> None:
    arguments: dict[str, Any] = {"save": ("one", TOKENS, 0, 100), "load": ("one", TOKENS, 0, 256, b"x")}
    model = load("scripted-prompt:")
    for arena in (_Place("one", flags="no_truncate").arena, PromptArena(model, prompt_context(model))):
        arena.open("one")
        with pytest.raises(Unsupported, match="snapshot"):
            Driven(Loop()).result(arena, getattr(arena, work)(*arguments[work]))


def test_what_can_be_carried_can_be_saved_and_cut() -> None:
    assert can_be_carried(Capabilities(snapshot=True, truncate=True))
    assert not can_be_carried(Capabilities(snapshot=True))
    assert not can_be_carried(Capabilities(truncate=True))
