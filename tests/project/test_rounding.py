"""What the shape of a batch changes and costs, measured in short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rounding import BESIDE, SIZES, TIMED

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.model
def test_the_real_model_in_short() -> None:
    command = [sys.executable, str(ROOT / "scripts/rounding.py"), "--texts", "2", "--depth", "256"]
    done = subprocess.run(
        [*command, "--repeats", "3"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [told["lead"][str(size)]["places"] for size in SIZES] == [2 * size for size in SIZES]
    assert told["lead"]["all"]["places"] == 2 * sum(SIZES)
    for found in told["lead"].values():
        assert 0 <= found["change"]["0.5"] <= found["change"]["0.9"] <= found["change"]["0.99"]
        assert found["another_likeliest_beyond_doubt"] <= found["another_likeliest"]
    assert list(told["cost"]) == [str(size) for size in TIMED]
    assert told["cost"]["1"] == 1
    assert told["cost"]["33"] > 1
    assert list(told["beside"]) == [f"{share:g}" for share in BESIDE]
