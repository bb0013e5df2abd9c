"""KV that left the cells and is kept in memory: what is kept, what comes back, and what it costs when it is forgotten."""

from __future__ import annotations

import pytest
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_logits, kv_context, load
from tests.daemon.engine.tree_facts import check_cells, check_tier
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import BackendError, KvContext, NoRoom, Run
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.tree import BULK_TOKENS, SHED_TOKENS, TokenTree
from sessiond.daemon.engine.victims import Worth
from sessiond.daemon.engine.work import Reuse

SAVED = 60
"""Bytes of a saved state, at most, beside those of its cells."""


class _Tree:
    """A tree, its context and its tier."""

    def __init__(self, *, capacity: int = 16, tier: int = 1 << 20, worth: Worth | None = None) -> None:
        self.context = kv_context(load("scripted-kv:"), num_ctx=capacity)
        self.tier = MemoryTier(tier)
        self.tree = TokenTree(self.context, self.tier, worth)

    def hold(self, branch: str, tokens: list[int]) -> None:
        if branch not in self.tree.tips:
            self.tree.open(branch)
        at = self.tree.walk(branch, tokens)
        if at < len(tokens):
            sequence, position = self.tree.extend(branch, len(tokens) - at)
            self.context.decode([Run(sequence, position, tokens[at:], want_logits=True)])
            self.tree.grow(branch, tokens[at:])
        assert self.tree.tokens(branch) == tokens

    def bring_back(self, branch: str, tokens: list[int]) -> bool:
        self.tree.walk(branch, tokens)
        [(node, _), *_] = self.tree.ahead(branch, tokens)
        return self.tree.restore(branch, node)

    def check(self) -> None:
        check_cells(self.tree, self.context)
        check_tier([self.tree], self.tier)


def test_what_nobody_holds_leaves_the_cells_where_it_is_much() -> None:
    place = _Tree(capacity=64)
    place.hold("one", [1] * 32)
    place.hold("one", [1] * 16 + [2] * 16)  # half of what is in cells is nobody's now
    place.hold("one", [1] * 16)
    before = place.tree.cells.used
    assert place.tree.shed() and place.tree.shed()
    assert (before, place.tree.cells.used) == (48, 16)
    assert not place.tree.shed()
    place.check()
    place.tree.walk("one", [1] * 32)
    assert place.bring_back("one", [1] * 32)
    place.tree.walk("one", [1] * 32)
    place.hold("one", [1] * 33)
    assert place.context.logits(0) == fresh_logits([1] * 33)


def test_a_long_leaf_is_shed_piece_by_piece() -> None:
    place = _Tree(capacity=3 * SHED_TOKENS)
    place.hold("one", [1] * SHED_TOKENS)
    place.hold("one", [1] * (2 * SHED_TOKENS + 5))
    place.tree.walk("one", [1] * 2)
    left: list[int] = []
    while place.tree.shed():
        left.append(place.tree.cells.used)
        place.check()
    assert left == [SHED_TOKENS + 5, 5, 2]


def test_in_passing_a_long_leaf_stays_and_a_short_one_goes() -> None:
    place = _Tree(capacity=3 * SHED_TOKENS)
    long, short = [1] * (SHED_TOKENS + 5), [2] * SHED_TOKENS
    for tokens in (long, short, []):
        place.hold("one", tokens)
    for _ in range(2):
        place.tree.make_way(BULK_TOKENS - 1, ["one"])
        assert (place.tree.match(short), place.tree.match(long)) == (0, len(long))
    place.check()
    assert place.tree.shed()


def test_once_there_is_time_what_idle_branches_hold_makes_room_for_the_last_one() -> None:
    place = _Tree(capacity=64)
    place.hold("idle", [1] * 8 + [2] * 16)
    place.hold("left", [1] * 8 + [3] * 8)
    place.hold("last", [1] * 8 + [4] * 8)
    place.tree.close("left")
    for _ in range(2):
        place.tree.make_way(1, ["last"])
        assert (place.tree.resident("idle"), place.tree.cells.used) == (24, 32)
    while place.tree.shed():
        place.check()
    assert (place.tree.resident("idle"), place.tree.resident("last"), place.tree.cells.used) == (8, 16, 16)
    assert place.tree.tokens("idle") == [1] * 8 + [2] * 16
    assert place.bring_back("idle", [1] * 8 + [2] * 16)
    place.hold("idle", [1] * 8 + [2] * 17)
    place.check()


def test_for_many_tokens_all_goes_that_is_beside_those_who_compute_them() -> None:
    place = _Tree(capacity=4 * SHED_TOKENS)
    long = [1] * 8 + [2] * (SHED_TOKENS + 5)
    place.hold("idle", long)
    place.hold("other", [1] * 8 + [3] * 8)
    place.hold("one", [1] * 8 + [4] * 8)
    place.tree.make_way(BULK_TOKENS, ["one", "other"])
    place.check()
    assert (place.tree.resident("idle"), place.tree.cells.used) == (8, 24)
    assert (place.tree.resident("one"), place.tree.resident("other")) == (16, 16)
    assert place.tree.tokens("idle") == long
    while place.tree.resident("idle") < len(long):
        assert place.bring_back("idle", long)
        place.tree.walk("idle", long)
    place.hold("idle", [*long, 2])
    place.check()


def test_where_a_branch_comes_back_what_stands_beside_it_goes() -> None:
    place = _Tree(capacity=4 * SHED_TOKENS)
    long = [1] * 8 + [2] * (SHED_TOKENS + 5)
    place.hold("one", [1] * 8 + [4] * 8)
    place.hold("idle", long)
    for returns in (False, True):
        place.tree.make_way(1, ["one"], returns=returns)
        assert place.tree.resident("idle") == (8 if returns else len(long))
    place.check()


def test_a_little_that_nobody_holds_stays() -> None:
    place = _Tree(capacity=130)
    place.hold("one", [1] * 130)
    place.tree.walk("one", [1] * 128)
    assert not place.tree.shed()
    assert place.tree.match([1] * 130) == 130


@pytest.mark.parametrize("tier", [0, 1 << 20])
def test_what_memory_would_not_keep_stays_in_the_cells(tier: int) -> None:
    place = _Tree(capacity=64, tier=tier, worth=lambda _tokens, _size: False)
    place.hold("one", [1] * 32)
    place.tree.walk("one", [])
    assert not place.tree.shed()


def test_what_is_shed_takes_no_memory_from_what_is_held() -> None:
    place = _Tree(capacity=24, tier=12 * CELL_BYTES + SAVED)
    place.hold("idle", [1] * 12)
    place.hold("one", [2] * 16)  # for this, `idle` went to memory, which is full
    place.tree.walk("one", [])
    assert place.tree.resident("idle") == 0
    place.tree.shed()
    assert place.bring_back("idle", [1] * 12)
    place.check()


def test_what_comes_back_is_what_was_saved() -> None:
    place = _Tree()
    place.hold("idle", [1] * 10)
    place.hold("busy", [2] * 10)
    assert place.tree.resident("idle") == 0
    assert place.bring_back("idle", [1] * 10)
    place.hold("idle", [1] * 11)
    assert place.context.logits(0) == fresh_logits([1] * 11)
    assert place.tree.resident("busy") == 0
    place.check()


def test_memory_may_drop_what_room_is_being_made_for() -> None:
    """It takes one of the two: what leaves the cells pushes out what is about to enter them."""
    place = _Tree(tier=10 * CELL_BYTES + SAVED)
    place.hold("one", [1] * 10)
    place.hold("two", [2] * 10)
    place.tree.walk("one", [1] * 10)
    [(node, _)] = place.tree.ahead("one", [1] * 10)
    assert not place.tree.restore("one", node)
    place.check()
    assert not place.tree.ahead("one", [1] * 10)
    place.hold("one", [1] * 10)
    place.check()


def test_a_state_that_does_not_load_is_forgotten_and_computed() -> None:
    place = _Tree()
    place.hold("idle", [1] * 10)
    place.hold("busy", [2] * 10)
    [node] = place.tree.root.children[1].below()
    node.kept = b"damaged" + (node.kept or b"")[7:]
    assert not place.bring_back("idle", [1] * 10)
    place.check()
    place.hold("idle", [1] * 10)
    assert place.context.logits(0) == fresh_logits([1] * 10)


def test_a_short_run_is_kept_for_the_sake_of_what_stands_below_it() -> None:
    place = _Tree(worth=lambda tokens, _size: tokens > 3)
    place.hold("idle", [1] * 2 + [2] * 8)
    place.tree.walk("idle", [1] * 2)
    place.hold("idle", [1] * 2 + [2] * 8)
    place.tree.leave_cells()
    assert place.tree.tokens("idle") == [1] * 2 + [2] * 8
    place.check()


def test_a_short_run_does_not_keep_an_idle_branch_in_the_cells() -> None:
    """It is not worth its bytes: computing it again is the lesser evil, and no reason to refuse room to others."""
    place = _Tree(worth=lambda tokens, _size: tokens > 3)
    place.hold("idle", [1] * 10)
    place.tree.retreat("idle")
    place.hold("idle", [1] * 10)
    place.hold("busy", [2] * 16)
    assert place.tree.tokens("idle") == [1] * 9
    place.check()


def test_the_cells_below_what_memory_keeps_of_a_branch_are_held_by_it() -> None:
    place = _Tree(capacity=20)
    place.hold("older", [1] * 4)
    place.hold("older", [1] * 4 + [2] * 6)
    place.tree.walk("older", [1] * 4)
    place.hold("older", [1] * 4 + [2] * 6)
    place.hold("gone", [3] * 8)
    place.hold("busy", [4] * 6)  # the end of what the older one holds leaves the cells
    place.tree.close("gone")
    place.hold("busy", [4] * 12)  # nobody holds the other any more
    assert place.tree.resident("older") == 4
    with pytest.raises(NoRoom):
        place.tree.extend("busy", 8, keep=["older"])
    place.hold("busy", [4] * 20)
    assert (place.tree.resident("older"), place.tree.length("older")) == (0, 10)
    place.check()


class _Arena:
    """An arena that gives its cells back and takes others."""

    def __init__(self, *branches: str, num_ctx: int = 64) -> None:
        model = load("scripted-kv:")
        self.context = Watched(kv_context(model, num_ctx=num_ctx))
        self.tier = MemoryTier(1 << 20)
        self.arena = KvArena(model, self.context.as_context(), self.tier, self._again)
        self._model = model
        self._loop = Driven(Loop())
        self._know_rates()
        for branch in branches:
            self.arena.open(branch)

    def _again(self) -> KvContext:
        self.context.real = kv_context(self._model, num_ctx=self.context.settings.num_ctx)
        return self.context.as_context()

    def _know_rates(self) -> None:
        """Whatever was measured: a token is computed in a tenth of a millisecond, and a restore takes half of one."""
        self.arena.rates._compute, self.arena.rates._restore = 1e4, 1e9

    def park(self) -> None:
        self._know_rates()
        self.arena.park()

    def advance(self, branch: str, tokens: list[int]) -> Reuse:
        self._know_rates()
        found: Reuse = self._loop.result(
            self.arena, self.arena.advance(branch, tokens, lambda _done, _total: None)
        )
        self.arena.check_integrity()
        assert self._loop.result(self.arena, self.arena.logits(branch, tokens)) == fresh_logits(tokens)
        return found


def test_a_short_run_is_brought_back_for_the_sake_of_what_follows_it() -> None:
    place = _Arena("it", "other")
    tokens = [1] + [2] * 40
    place.advance("it", tokens)
    place.advance("other", [1])  # parts them after the first token
    place.park()
    assert place.advance("it", tokens).prefilled == 0


def test_what_begins_alike_does_not_cost_an_idle_branch_what_memory_keeps_of_it() -> None:
    place = _Arena("idle", "busy")
    mine, its = [5] + [1] * 40, [5] + [2] * 3
    place.advance("idle", mine)
    place.park()
    place.advance("busy", its)
    found = place.advance("idle", mine)
    assert found.prefilled == 0


def test_a_backend_that_cannot_save_loses_what_nobody_needs_now() -> None:
    place = _Tree()
    place.hold("gone", [1] * 10)
    place.tree.close("gone")
    real = place.context.save

    def refuse(_sequence: int, _start: int = 0) -> bytes:
        raise BackendError("as the test wanted")

    place.context.save = refuse  # type: ignore[method-assign, assignment]
    place.hold("busy", [2] * 10)
    place.context.save = real  # type: ignore[method-assign]
    assert place.tree.match([1] * 10) == 0
    place.check()


@pytest.mark.parametrize("tier", [0, 4 * CELL_BYTES])
def test_only_a_branch_that_yields_gives_way_where_memory_takes_nothing(tier: int) -> None:
    place = _Tree(capacity=24, tier=tier)
    place.tree.open("body", yields=True)
    place.hold("body", [1] * 2 + [2] * 10)
    place.hold("idle", [1] * 2 + [3] * 10)
    place.hold("new", [4] * 12)
    place.check()
    assert place.tree.tokens("body") == [1] * 2, "what is not its alone stays"
    assert place.tree.tokens("idle") == [1] * 2 + [3] * 10
    place.tree.open("another")
    with pytest.raises(NoRoom):
        place.tree.extend("another", 1)
    place.check()
