"""After any history, a sequence answers as if its tokens had been computed afresh, bit for bit where it is deterministic."""

from __future__ import annotations

import random

import pytest

from sessiond.adapters.base import KvContext, NoRoom, Run, Unsupported

from .kit import KvBench, prefill, tokens_of

_SEQUENCES = 4
_STEPS = 25


class _History:
    """Does something at random to a context, and keeps in mind what its sequences must hold."""

    def __init__(self, kv: KvBench, context: KvContext, seed: int) -> None:
        self.kv = kv
        self.context = context
        self.random = random.Random(seed)
        self.held: list[list[int]] = [[] for _ in range(_SEQUENCES)]
        self.checkpoints: dict[tuple[int, ...], bytes] = {}
        """By the tokens that they were taken of."""

    def step(self) -> None:
        acts = [self.grow, self.grow, self.grow_two, self.cut, self.drop, self.share, self.move]
        self.random.choice(acts)()
        assert [self.context.end(sequence) for sequence in range(_SEQUENCES)] == [len(h) for h in self.held]

    def pick(self) -> int:
        return self.random.randrange(_SEQUENCES)

    def tokens(self, most: int) -> list[int]:
        return tokens_of(self.kv.model, self.random.randint(1, most), f"{self.random.random()} ")

    def grow(self) -> None:
        self.decode({self.pick(): self.tokens(60)})

    def grow_two(self) -> None:
        one, other = self.random.sample(range(_SEQUENCES), 2)
        self.decode({one: self.tokens(40), other: self.tokens(40)})

    def decode(self, new: dict[int, list[int]]) -> None:
        try:
            self.context.decode([Run(seq, len(self.held[seq]), tokens) for seq, tokens in new.items()])
        except NoRoom:
            self.drop()
        else:
            for sequence, tokens in new.items():
                self.held[sequence] = self.held[sequence] + tokens
                self.checkpoints[tuple(self.held[sequence])] = self.context.checkpoint(sequence)

    def place(self, sequence: int) -> tuple[int, bytes]:
        """Somewhere in the sequence, and the checkpoint of that place if there is one."""
        held = self.held[sequence]
        ends = [end for end in range(1, len(held) + 1) if tuple(held[:end]) in self.checkpoints]
        end = self.random.choice([*ends, self.random.randint(0, len(held))])
        return end, self.checkpoints.get(tuple(held[:end]), b"")

    def cut(self) -> None:
        sequence = self.pick()
        end, checkpoint = self.place(sequence)
        if self.context.truncate(sequence, end, checkpoint):
            self.held[sequence] = self.held[sequence][:end]

    def drop(self) -> None:
        sequence = self.pick()
        self.context.drop(sequence)
        self.held[sequence] = []

    def share(self) -> None:
        source, target = self.random.sample(range(_SEQUENCES), 2)
        end, checkpoint = self.place(source)
        self.context.drop(target)
        self.held[target] = []
        try:
            self.context.share(source, target, end, checkpoint)
        except Unsupported:
            assert not self.kv.cuts
            assert not checkpoint
        except NoRoom:  # a window that comes from a checkpoint takes cells
            assert not self.kv.cuts
        else:
            self.held[target] = self.held[source][:end]

    def move(self) -> None:
        source, target = self.random.sample(range(_SEQUENCES), 2)
        if not self.held[source]:
            return
        state = self.context.save(source)
        self.context.drop(source)
        self.context.drop(target)
        try:
            self.context.load(target, state)
        except NoRoom:
            self.held[target] = []
        else:
            self.held[target] = self.held[source]
        self.held[source] = []


@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_answers_are_those_of_fresh_contexts(kv: KvBench, seed: int) -> None:
    context = kv.open_branching(num_ctx=256)
    history = _History(kv, context, seed)
    for _ in range(_STEPS):
        history.step()
    for sequence, held in enumerate(history.held):
        if held:
            for other in range(sequence):
                context.drop(other)  # room for one more token
            assert context.end(sequence) == len(held)
            one = tokens_of(kv.model, 1)
            if len(held) < context.settings.num_ctx:
                kv.assert_as_fresh(context, prefill(context, sequence, one), held + one)
