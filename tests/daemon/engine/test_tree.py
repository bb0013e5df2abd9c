"""The token tree against a naive model, over random histories."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.daemon.engine.tree_model import AMPLE, Kind, ModelledTree, Step

_TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)
_SHARE = st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.0, 1.0])
_KEPT = st.floats(0, 1)
"""How many of the other branches, by age, an extension must leave alone."""
_BUDGET = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # To shrink a failing history can take minutes: add Phase.shrink by hand for that.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


class Histories(RuleBasedStateMachine):
    """Whatever can be done to a tree."""

    tier = AMPLE
    cuts = True
    branches: Bundle[str] = Bundle("branches")

    def __init__(self) -> None:
        super().__init__()
        self.modelled = ModelledTree(Kind())
        self.opened = 0

    @initialize(
        capacity=st.sampled_from([16, 64]),
        max_sequences=st.sampled_from([1, 3, 8]),
        worth=st.sampled_from([0, 0, 3]),
    )
    def begin(self, capacity: int, max_sequences: int, worth: int) -> None:
        self.modelled = ModelledTree(Kind(capacity, max_sequences, self.tier, self.cuts, worth))

    def _name(self) -> str:
        self.opened += 1
        return f"branch {self.opened}"

    def _kept(self, share: float) -> list[str]:
        names = list(self.modelled.held)
        return names[: round(len(names) * share)]

    @precondition(lambda self: len(self.modelled.held) < 5)
    @rule(target=branches)
    def open(self) -> str:
        name = self._name()
        self.modelled.open(name)
        return name

    @precondition(lambda self: len(self.modelled.held) < 5)
    @rule(target=branches, parent=branches)
    def fork(self, parent: str) -> str:
        name = self._name()
        self.modelled.open(name, parent)
        return name

    @precondition(lambda self: len(self.modelled.held) < 5)
    @rule(target=branches, keeps=st.integers(0, 12))
    def open_passing(self, keeps: int) -> str:
        name = self._name()
        self.modelled.open(name, keeps=keeps)
        return name

    @precondition(lambda self: len(self.modelled.held) < 5)
    @rule(target=branches)
    def open_yielding(self) -> str:
        name = self._name()
        self.modelled.open(name, yields=True)
        return name

    @rule(branch=consumes(branches))
    def close(self, branch: str) -> None:
        self.modelled.close(branch)

    @rule(branch=branches, tokens=_TOKENS)
    def walk(self, branch: str, tokens: list[int]) -> None:
        self.modelled.walk(branch, tokens)

    @precondition(lambda self: self.cuts)
    @rule(branch=branches, tokens=_TOKENS, share=_SHARE)
    def shorten(self, branch: str, tokens: list[int], share: float) -> None:
        """What was computed last comes to nothing."""
        path = self.modelled.held[branch]
        self.modelled.shorten(branch, [*path[: int(len(path) * share)], *tokens])

    @precondition(lambda self: self.cuts)
    @rule(branch=branches, tokens=_TOKENS, doubted=_SHARE, right=_SHARE, keep=_KEPT)
    def guess(self, branch: str, tokens: list[int], doubted: float, right: float, keep: float) -> None:
        """One of the tokens is computed once more by itself, and some of those behind it stay."""
        places = sorted(int(len(tokens) * share) for share in (doubted, right))
        self.modelled.guess(branch, tokens, max(1, places[0]), max(1, places[1]), self._kept(keep))

    @rule(branch=branches, other=branches, share=st.floats(0, 1), keep=_KEPT)
    def go_to_part_of_another(self, branch: str, other: str, share: float, keep: float) -> None:
        path = self.modelled.held[other]
        self.modelled.bring(branch, path[: round(len(path) * share)], self._kept(keep))

    @rule(branch=branches, tokens=_TOKENS, share=_SHARE, keep=_KEPT)
    def grow(self, branch: str, tokens: list[int], share: float, keep: float) -> None:
        self.modelled.grow(Step(branch, tokens, int(len(tokens) * share), self._kept(keep)))

    @rule(branch=branches, tokens=_TOKENS, keep=_KEPT)
    def bring(self, branch: str, tokens: list[int], keep: float) -> None:
        self.modelled.bring(branch, tokens, self._kept(keep))

    @rule(branch=branches, tokens=_TOKENS, keep=_KEPT)
    def bring_further(self, branch: str, tokens: list[int], keep: float) -> None:
        """What it holds may be in memory."""
        self.modelled.bring(branch, self.modelled.held[branch] + tokens, self._kept(keep))

    @rule(one=branches, two=branches, tokens=_TOKENS, others=_TOKENS, share=_SHARE, keep=_KEPT)
    def grow_two(
        self, one: str, two: str, tokens: list[int], others: list[int], share: float, keep: float
    ) -> None:
        """In one batch."""
        if one != two:
            kept = self._kept(keep)
            self.modelled.grow(
                Step(one, tokens, int(len(tokens) * share), kept),
                Step(two, others, int(len(others) * share), [*kept, one]),
            )

    @rule(one=branches, two=branches, tokens=_TOKENS, others=_TOKENS)
    def grow_two_from_one_tip(self, one: str, two: str, tokens: list[int], others: list[int]) -> None:
        if one != two:
            self.modelled.walk(two, list(self.modelled.held[one]))
            self.modelled.grow(Step(one, tokens, len(tokens)), Step(two, others, len(others), [one]))

    @rule(branch=branches, keep=_KEPT)
    def compute_the_last_token_again(self, branch: str, keep: float) -> None:
        self.modelled.bring(branch, list(self.modelled.held[branch]), self._kept(keep))
        if self.modelled.held[branch]:
            self.modelled.again(branch, self._kept(keep))

    @rule(branch=branches)
    def mark(self, branch: str) -> None:
        self.modelled.tree.mark(branch)

    @rule()
    def evict_all(self) -> None:
        self.modelled.evict_all()

    @rule()
    def leave_the_cells_and_return(self) -> None:
        self.modelled.leave()

    @invariant()
    def agrees(self) -> None:
        self.modelled.check()

    def teardown(self) -> None:
        self.modelled.check_all_free()


@pytest.mark.parametrize("tier", [0, 300, AMPLE])
@pytest.mark.parametrize("cuts", [True, False], ids=["cuts", "cannot cut"])
def test_any_history_is_that_of_the_model(tier: int, cuts: bool) -> None:
    kind = type("Machine", (Histories,), {"tier": tier, "cuts": cuts})
    run_state_machine_as_test(kind, settings=_BUDGET)
