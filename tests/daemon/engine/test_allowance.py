"""How often something is done in passing."""

from __future__ import annotations

import pytest

from sessiond.daemon.engine.allowance import Allowance


@pytest.mark.parametrize(("took", "again"), [(0.0, 5.0), (0.01, 5.0), (0.2, 20.0)])
def test_an_act_comes_seldom_and_takes_a_small_share_of_the_time(took: float, again: float) -> None:
    now, done = 0.0, list[float]()

    def act() -> None:
        nonlocal now
        done.append(now)
        now += took

    allowance = Allowance(5.0, 0.01, lambda: now)
    for moment in (0.0, 4.9, 5.0, 5.0 + took + again - 0.1, 5.0 + took + again + 0.1):
        now = moment
        allowance.spend(act)
    assert done == [5.0, 5.0 + took + again + 0.1]
