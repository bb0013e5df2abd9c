"""A warm answer is the cold one, on the real model: the short form of `scripts/exactness.py`."""

from __future__ import annotations

import pytest

from exactness import examine

HISTORIES = 8
SEED = 7
"""Another one than the script's, so that the two do not look at the same histories."""


@pytest.mark.model
@pytest.mark.parametrize("mode", ["deterministic", "default"])
async def test_a_warm_answer_is_the_cold_one(mode: str) -> None:
    findings = await examine(mode, range(HISTORIES), SEED)
    assert findings.histories == HISTORIES
    assert findings.turns > 2 * HISTORIES
    assert findings.faults(mode) == []
