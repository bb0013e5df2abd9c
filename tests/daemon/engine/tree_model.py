"""A token tree next to a naive model of it: every branch is a list of tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Sequence
from typing import NamedTuple

from tests.daemon.engine.scripted import fresh_logits, kv_context, load
from tests.daemon.engine.tree_facts import check_cells, check_tier, common, leaves, prefixes

from sessiond.adapters.base import NoRoom, Run
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.tree import Spot, TokenTree

AMPLE = 1 << 20
"""Bytes of a memory tier that takes all there can be."""


class Kind(NamedTuple):
    """What a tree stands on."""

    capacity: int = 64
    max_sequences: int = 3
    tier: int = AMPLE
    """Bytes."""
    cuts: bool = True
    worth: int = 0
    """Runs of fewer tokens are not worth their bytes."""


class Step(NamedTuple):
    """Tokens for a branch, and how many of them an abort leaves."""

    branch: str
    tokens: list[int]
    done: int
    keep: Collection[str] = ()


class Ready(NamedTuple):
    """A step that `extend` made ready."""

    step: Step
    sequence: int
    position: int


class ModelledTree:
    """Does to a tree what it is told and checks each outcome against the model."""

    def __init__(self, kind: Kind) -> None:
        flag = "" if kind.cuts else ",no_truncate"
        self._backend = load(f"scripted-kv:max_sequences={kind.max_sequences}{flag}")
        self.kind = kind
        self.context = self._new_context()
        self.tier = MemoryTier(kind.tier)
        self.tree = TokenTree(
            self.context, self.tier, lambda tokens, _size: tokens >= kind.worth, cuts=kind.cuts
        )
        self.held: dict[str, list[int]] = {}
        self.ever: set[tuple[int, ...]] = {()}
        """All that was ever computed: no match may be longer."""
        self._ready: list[Ready] = []
        """Steps that are promised their room."""

    def _new_context(self) -> ScriptedKv:
        return kv_context(self._backend, num_ctx=self.kind.capacity)

    # What the model says.

    def _resident(self, branches: Collection[str]) -> list[list[int]]:
        """What these branches have in cells."""
        return [self.held[branch][: self.tree.resident(branch)] for branch in branches]

    def _has_room(self, branch: str, count: int, protected: Collection[str]) -> bool:
        """Whether there is room once all has left the cells that the protected branches do not hold: enough cells, and
        a sequence to spare or one that goes on from the branch's own tip.
        """
        stay = self._resident({branch, *protected, *(ready.step.branch for ready in self._ready)})
        promised = sum(len(ready.step.tokens) for ready in self._ready)
        taken_over = {r.sequence for r in self._ready if r.sequence == self.tree.tips[r.step.branch].sequence}
        tip = tuple(self.held[branch])
        goes_on = tip in leaves(stay) and not any(
            r.sequence in taken_over and tuple(self.held[r.step.branch]) == tip for r in self._ready
        )
        sequences = len(leaves(stay)) + len(self._ready) - len(taken_over)
        return len(prefixes(stay)) + promised + count <= self.kind.capacity and (
            goes_on or sequences < self.kind.max_sequences
        )

    @contextlib.contextmanager
    def _noting_losses(self, *protected: str) -> Generator[None, None, None]:
        """Nothing that is protected leaves the cells, and nothing is lost that cells or an ample memory can hold."""
        here = {branch: self.tree.resident(branch) for branch in protected}
        safe = {branch for branch in protected if here[branch] == len(self.held[branch])}
        yield
        assert all(self.tree.resident(branch) >= here[branch] for branch in protected)
        for branch, path in self.held.items():
            now = self.tree.tokens(branch)
            if now != path:
                assert path[: len(now)] == now
                assert branch not in safe, "a protected branch lost something"
                assert self._idle_give_way or branch in self.tree.yielding, (
                    "a branch that need not give way did"
                )
                self.held[branch] = now

    # What is done.

    def open(
        self, branch: str, parent: str | None = None, keeps: int | None = None, *, yields: bool = False
    ) -> None:
        self.tree.open(branch, parent, keeps, yields=yields)
        self.held[branch] = [] if parent is None else list(self.held[parent])

    def close(self, branch: str) -> None:
        """What it held may go with it, if it is passing; never what others hold, or what it keeps."""
        path = self.held.pop(branch)
        keeps, stood = self.tree.keeps.get(branch, len(path)), self.tree.match(path)
        with self._noting_losses(*self.held):
            self.tree.close(branch)
        assert self.tree.match(path) >= min(stood, keeps) or not self.kind.cuts
        assert branch not in self.tree.keeps
        assert branch not in self.tree.yielding

    def walk(self, branch: str, tokens: list[int]) -> None:
        """Move the branch; what it held is found again, but for what is in memory only."""
        reach = self.tree.match(tokens)
        found = max(common(path, tokens) for path in self._resident(self.held))
        reached = self.tree.walk(branch, tokens)
        assert found <= reach
        assert reached == reach or (not self.kind.cuts and reached < reach)
        assert reached == self.tree.length(branch)
        assert tuple(tokens[:reached]) in self.ever
        self.held[branch] = tokens[:reached]
        assert self.tree.stands(branch, reached)

    def retreat(self, branch: str) -> None:
        """One token back, or as far as it must be where nothing can be cut."""
        path = self.held[branch]
        at = self.tree.retreat(branch)
        assert at == len(path) - 1 or (not self.kind.cuts and at < len(path))
        self.held[branch] = path[:at]
        assert self.tree.stands(branch, at)

    def shorten(
        self, branch: str, tokens: list[int], came_to: Spot | None = None, left: Sequence[int] = ()
    ) -> None:
        """Walk, and have lost no more than what it left, and nothing that another one holds."""
        others = {name: self.tree.resident(name) for name in self.held if name != branch}
        used, left, reach = self.tree.cells.used, left or self.held[branch], self.tree.match(tokens)
        self.tree.shorten(branch, tokens, came_to)
        assert self.tree.length(branch) == reach
        assert used - self.tree.cells.used <= len(left) - common(left, tokens)
        assert others == {name: self.tree.resident(name) for name in others}
        self.held[branch] = tokens[:reach]
        assert self.tree.stands(branch, reach)

    def guess(self, branch: str, tokens: list[int], doubted: int, right: int, keep: Collection[str]) -> None:
        """Compute tokens, go back to one of them and compute it again, and then stay with some of them."""
        path = self.held[branch]
        if not tokens or not self.grow(Step(branch, tokens, len(tokens), keep)):
            return
        came_to, left = self.tree.spot(branch), self.held[branch]
        self.walk(branch, left[: len(path) + doubted])
        self.again(branch, keep)
        self.shorten(branch, left[: len(path) + right], came_to, left)

    def again(self, branch: str, keep: Collection[str]) -> None:
        """Compute the last token again, for its logits."""
        path = self.held[branch]
        self.retreat(branch)
        self.compute(branch, path, keep)

    def grow(self, *steps: Step) -> bool:
        """Compute in one batch what the steps say; False if there was no room for one of them."""
        fits = True
        for step in steps:
            fits = self._make_ready(step) and fits
        done, self._ready = self._ready, []
        # Micro-batches are computed in order: an abort in one run leaves nothing of the later ones.
        for index, ready in enumerate(done):
            if any(before.step.done < len(before.step.tokens) for before in done[:index]):
                done[index] = ready._replace(step=ready.step._replace(done=0))
        self._decode(done)
        for ready in done:
            self._settle(ready.step)
        return fits

    def _make_ready(self, step: Step) -> bool:
        branch, count = step.branch, len(step.tokens)
        if not self.tree.stands(branch, len(self.held[branch])):
            return False  # an earlier step of the batch sent it to memory, or its like
        must = self._has_room(branch, count, self.held)
        may = self._has_room(branch, count, step.keep)
        promised = [ready.step.branch for ready in self._ready]
        with self._noting_losses(branch, *step.keep, *promised):
            try:
                sequence, position = self.tree.extend(branch, count, step.keep)
            except NoRoom:
                assert not must, "there was room"
                assert not may or not self._all_give_way, "there was room, if idle branches had given way"
                return False
        assert may, "there was no room"
        give_way = self._idle_give_way or self.tree.yielding
        assert must or give_way, "there was no room, and idle branches need not give way"
        assert position == len(self.held[branch])
        self._ready.append(Ready(step, sequence, position))
        return True

    @property
    def _idle_give_way(self) -> bool:
        """Whether idle branches may give their cells to others: to memory, or where nothing can be cut for good."""
        return not self.kind.cuts or self.kind.tier > 0

    @property
    def _all_give_way(self) -> bool:
        """Whether all of them do."""
        return not self.kind.cuts or self.kind.tier == AMPLE

    def _decode(self, ready: Sequence[Ready]) -> None:
        computed = [each for each in ready if each.step.done]
        runs = [
            Run(each.sequence, each.position, each.step.tokens[: each.step.done], want_logits=True)
            for each in computed
        ]
        if not runs:
            return
        self.context.decode(runs)
        for index, each in enumerate(computed):
            path = self.held[each.step.branch] + each.step.tokens[: each.step.done]
            assert self.context.logits(index) == fresh_logits(path)
            self.ever |= {tuple(path[:end]) for end in range(len(path) + 1)}

    def _settle(self, step: Step) -> None:
        before, done = self.held[step.branch], step.tokens[: step.done]
        with self._noting_losses(step.branch):
            if not step.done:
                self.tree.release(step.branch)
                return
            stood = self.tree.match([*before, *done])
            self.tree.grow(step.branch, done)
            after = self.held[step.branch] = self.tree.tokens(step.branch)
        assert after == [*before, *done][: len(after)]
        # Where another branch computed a part of the same, its cells are kept and ours are not.
        assert len(after) == (stood if stood > len(before) else len(before) + len(done)) or (
            not self.kind.cuts and len(before) <= len(after)
        )

    def bring(self, branch: str, tokens: list[int], keep: Collection[str]) -> None:
        """What an arena does to bring a branch to tokens: walk, restore what is in memory, compute the rest."""
        self.walk(branch, tokens)
        while ahead := self.tree.ahead(branch, tokens):
            node, matched = ahead[0]
            size, at = len(node.tokens), len(self.held[branch])
            may = self._has_room(branch, size, keep)
            with self._noting_losses(branch, *keep):
                try:
                    done = self.tree.restore(branch, node, keep)
                except NoRoom:
                    assert not may or not self._all_give_way, "there was room"
                    return
            assert may, "there was no room"
            if done:
                self.walk(branch, tokens)
                assert len(self.held[branch]) >= at + min(matched, 1)
            else:
                assert not self._all_give_way, "what memory kept was lost"
                break
        self.compute(branch, tokens, keep)

    def compute(self, branch: str, tokens: list[int], keep: Collection[str]) -> None:
        """Compute what is missing, no further at once than what stands where nothing can be cut."""
        while len(self.held[branch]) < len(tokens):
            at, known = len(self.held[branch]), self.tree.known(branch, tokens)
            rest = tokens[at : at + known] if known else tokens[at:]
            if not self.grow(Step(branch, rest, len(rest), keep)):
                return
            # What was known may have been evicted to make room, all but a part that others hold.
            gained = len(self.held[branch]) > at or self.tree.known(branch, tokens) < known
            assert gained, "nothing was gained"

    def leave(self) -> None:
        """All leaves the cells, and a new context takes the place of the old one."""
        before = dict(self.held)
        self.tree.leave_cells()
        for branch in self.held:
            self.held[branch] = self.tree.tokens(branch)
            assert before[branch][: len(self.held[branch])] == self.held[branch]
            assert self.tree.resident(branch) == 0
        keeps_all = self.kind.cuts and self.kind.tier == AMPLE and not self.kind.worth
        assert self.held == before or not keeps_all, "memory had room for it"
        self.check()
        assert self.tree.cells.used == 0
        self.context.close()
        self.context = self._new_context()
        self.tree.enter(self.context)

    def evict_all(self) -> None:
        with self._noting_losses(*self.held):
            self.tree.evict_all()
        assert self.tree.cells.used == len(prefixes(self._resident(self.held)))

    # What always holds.

    def check(self) -> None:
        check_cells(self.tree, self.context)
        check_tier([self.tree], self.tier)
        assert self.tree.tips.keys() == self.held.keys()
        for branch, path in self.held.items():
            assert self.tree.tokens(branch) == path
            assert self.tree.length(branch) == len(path)
            here = self.tree.resident(branch)
            assert self.tree.match(path) >= here
            assert here <= len(path)
            assert self.kind.cuts or self.tree.stands(branch, len(path)), "a branch that cannot go on"

    def check_all_free(self) -> None:
        for branch in list(self.held):
            self.close(branch)
        self.evict_all()
        self.check()
        assert self.tree.cells.used == self.context.used_cells == 0
        assert sorted(self.tree.cells.free) == list(range(self.kind.max_sequences))
        self.tree.forget_memory()
        assert self.tier.used == 0
