"""A token tree next to a naive model of it: every branch is a list of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.daemon.engine.scripted import fresh_logits, kv_context, load

from sessiond.adapters.base import NoRoom, Run
from sessiond.daemon.engine.tree import TokenTree


class Step(NamedTuple):
    """Tokens for a branch, and how many of them an abort leaves."""

    branch: str
    tokens: list[int]
    done: int


class ModelledTree:
    """Does to a tree what it is told and checks each outcome against the model."""

    def __init__(self, *, capacity: int, max_sequences: int, no_truncate: bool = False) -> None:
        flag = ",no_truncate" if no_truncate else ""
        self.context = kv_context(load(f"scripted-kv:max_sequences={max_sequences}{flag}"), num_ctx=capacity)
        self.tree = TokenTree(self.context)
        self.capacity, self.max_sequences = capacity, max_sequences
        self.no_truncate = no_truncate
        self.held: dict[str, list[int]] = {}
        self.ever: set[tuple[int, ...]] = {()}
        """All that was ever computed: no match may be longer."""

    # What the model says.

    def held_prefixes(self) -> set[tuple[int, ...]]:
        """Every token that some branch needs, as the path to it."""
        return {tuple(path[:end]) for path in self.held.values() for end in range(1, len(path) + 1)}

    def held_leaves(self) -> set[tuple[int, ...]]:
        """Paths of branches below which no other branch stands: each needs a sequence."""
        paths = {tuple(path) for path in self.held.values() if path}
        return {
            path for path in paths if not any(o[: len(path)] == path and len(o) > len(path) for o in paths)
        }

    def has_room(self, branch: str, count: int) -> bool:
        """Whether `extend` must find room: exactly then, after eviction of all that nobody holds, the cells are
        enough, and there is a sequence to spare or one that goes on from the branch's own tip.
        """
        leaves = self.held_leaves()
        goes_on = tuple(self.held[branch]) in leaves
        return len(self.held_prefixes()) + count <= self.capacity and (
            goes_on or len(leaves) < self.max_sequences
        )

    # What is done.

    def walk(self, branch: str, tokens: list[int]) -> None:
        expected, before = self.tree.match(tokens), self.held[branch]
        moved = self.tree.walk(branch, tokens)
        reached = self.tree.length(branch)
        assert reached == expected
        assert moved == (tokens[:reached] != before)
        assert tuple(tokens[:reached]) in self.ever
        for path in self.held.values():
            assert reached >= common(path, tokens), "what a branch holds is always found"
        self.held[branch] = tokens[:reached]

    def grow(self, step: Step) -> None:
        room = self.has_room(step.branch, len(step.tokens))
        try:
            sequence, position = self.tree.extend(step.branch, len(step.tokens))
        except NoRoom:
            assert not room, "there was room"
            self._note_losses()
            assert self.tree.used == len(self.held_prefixes()), "something was left that nobody held"
            return
        assert room or self.no_truncate, "there was no room"
        self._note_losses()
        assert position == len(self.held[step.branch])
        self._decode([(step, sequence, position)])
        self._settle(step)

    def grow_two(self, one: Step, two: Step) -> None:
        """Both are made ready before either is computed, as in one batch."""
        count = len(one.tokens) + len(two.tokens)
        if len(self.held_prefixes()) + count > self.capacity:
            return
        if self.tree.used + count > self.capacity:
            self.tree.evict_all()
        ready: list[tuple[Step, int, int]] = []
        for step in (one, two):
            try:
                ready.append((step, *self.tree.extend(step.branch, len(step.tokens))))
            except NoRoom:
                assert len(self.held_leaves()) + 2 > self.max_sequences, "there was room"
        if len(ready) == 2 and ready[0][0].done < len(one.tokens):
            # Micro-batches are computed in order: an abort in the first run leaves nothing of the second.
            ready[1] = (two._replace(done=0), *ready[1][1:])
        self._decode(ready)
        for step, _, _ in ready:
            self._settle(step)

    def pop(self, branch: str) -> None:
        path = self.held[branch]
        token = self.tree.pop(branch)
        self._note_losses()
        if token is None:
            return
        assert token == path[-1]
        others = [other for name, other in self.held.items() if name != branch]
        assert not any(other[: len(path)] == path for other in others), "another branch needed it"
        self.held[branch] = path[:-1]

    def replay(self, branch: str) -> None:
        """Compute the last token again, on the side."""
        room = len(self.held_prefixes()) + 1 <= self.capacity and len(self.held_leaves()) < self.max_sequences
        try:
            sequence, position, token = self.tree.borrow(branch)
        except NoRoom:
            assert not room, "there was room"
            self._note_losses()
            return
        assert room or self.no_truncate, "there was no room"
        self._note_losses()
        assert (position, token) == (len(self.held[branch]) - 1, self.held[branch][-1])
        self.context.decode([Run(sequence, position, [token], want_logits=True)])
        assert self.context.logits(0) == fresh_logits(self.held[branch])
        self.tree.release(branch)

    def _note_losses(self) -> None:
        """Where no sequence can be cut, eviction may take a branch's KV with that of what followed it: all of it."""
        if self.no_truncate:
            for branch in self.held:
                if not self.tree.length(branch):
                    self.held[branch] = []

    def _decode(self, ready: Sequence[tuple[Step, int, int]]) -> None:
        runs = [
            Run(sequence, position, step.tokens[: step.done], want_logits=True)
            for step, sequence, position in ready
            if step.done
        ]
        if not runs:
            return
        self.context.decode(runs)
        computed = [step for step, _, _ in ready if step.done]
        for index, step in enumerate(computed):
            path = self.held[step.branch] + step.tokens[: step.done]
            assert self.context.logits(index) == fresh_logits(path)
            self.ever |= {tuple(path[:end]) for end in range(len(path) + 1)}

    def _settle(self, step: Step) -> None:
        before = self.held[step.branch]
        if not step.done:
            self.tree.release(step.branch)
            return
        followed = self.tree.match([*before, step.tokens[0]]) > len(before)
        self.tree.grow(step.branch, step.tokens[: step.done])
        after = self.tree.tokens(step.branch)
        assert after == before + step.tokens[: len(after) - len(before)]
        assert len(before) < len(after) <= len(before) + step.done
        assert followed or len(after) == len(before) + step.done
        self.held[step.branch] = after

    # What always holds.

    def check(self) -> None:
        self.tree.check_integrity()
        assert self.context.used_cells == self.tree.used
        for branch, path in self.held.items():
            assert self.tree.tokens(branch) == path
            assert self.tree.length(branch) == len(path)
            assert self.tree.match(path) == len(path)
            others = [other for name, other in self.held.items() if name != branch]
            assert self.tree.shared(branch) == max((common(path, other) for other in others), default=0)
            self._check_cells(branch, path)

    def _check_cells(self, branch: str, path: list[int]) -> None:
        """The cells that cover the branch hold what was computed for exactly its tokens."""
        sequence = self.tree._cover(self.tree._tips[branch])
        if not path:
            return
        assert sequence is not None
        cells = self.context._held[sequence][: len(path)]
        assert [cell.token for cell in cells] == path

    def check_all_free(self) -> None:
        for branch in list(self.held):
            self.tree.close(branch)
            del self.held[branch]
        self.tree.evict_all()
        self.check()
        assert self.tree.used == self.context.used_cells == 0
        assert sorted(self.tree._free) == list(range(self.max_sequences))


def common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens the two share from the first."""
    count = 0
    while count < min(len(one), len(two)) and one[count] == two[count]:
        count += 1
    return count
