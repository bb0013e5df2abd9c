"""The measurement of guesses, in short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.engine.scripted import load

from speculation_cold import Cold, Shape

ROOT = Path(__file__).resolve().parents[2]
LINE = [5, 6, 7, 8, 9, 10, 11, 12]


def test_where_nothing_is_rounded_no_shape_changes_an_answer() -> None:
    model = load("scripted-kv:")
    shapes = (Shape(), Shape(1), Shape(32), Shape(guesses=True), Shape(beside=True))
    sides = [Cold(model, shape, 512) for shape in shapes]
    for prompt in (LINE * 5, LINE[::-1] * 4 + LINE):
        first, *others = [side.say(prompt, 24) for side in sides]
        assert len(first) == 24
        assert others == [first] * len(others)
    for side in sides:
        assert side.shape.guesses or not side.drafted
        side.close()


@pytest.mark.model
def test_guesses_of_the_real_model() -> None:
    command = [sys.executable, str(ROOT / "scripts/speculation.py"), "--only", "exact,default"]
    done = subprocess.run(
        [*command, "--prompts", "2", "--no-peer"], capture_output=True, text=True, check=False, timeout=300
    )
    told: dict[str, Any] = json.loads(done.stdout)["outcomes"]
    assert [told["exact"][kind]["unlike"] for kind in ("greedy", "drawn")] == [0, 0], done.stderr
    assert told["default"]["answers"] == 2
    assert 0 < told["default"]["accepted"] <= told["default"]["drafted"]
    # How far two answers are apart says little: it is counted over 200.
    assert {name for name in told["default"] if name.startswith("unlike")} == {
        f"unlike, {name}" for name in ("guessed", "prompt in 32", "prompt in 1", "beside another")
    }
