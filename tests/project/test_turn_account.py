"""The account of a warm turn tells stages that add up to it, beside a bare loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.turns import Turn
from sessiond.v1.context_pb2 import Timings
from turn_account import STAGES, stages

ROOT = Path(__file__).resolve().parents[2]


def test_the_stages_add_up_to_the_turn() -> None:
    turn = Turn(begun=10.0, stamps=[(10.030, 1)])
    turn.timings = Timings(
        first_token_ms=28.0, tokenize_ms=2.0, queue_ms=1.0, restore_ms=4.0, prefill_ms=12.0
    )
    told = stages(turn)
    assert told == pytest.approx({"there": 2.0, "workspace": 2.0, "way": 17.0, "token": 9.0, "turn": 30.0})
    assert sum(told[stage] for stage in STAGES) == pytest.approx(told["turn"])


@pytest.mark.model
def test_an_account_of_the_real_model(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/turn_account.py"), "--depth", "512", "--repeats", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["ms"]
    assert set(told) == {*STAGES, "turn", "floor"}
    assert 0 < told["token"] < told["turn"]
    assert told["floor"] > 0
    assert [line.split()[2] for line in done.stderr.splitlines()[-7:]] == [*STAGES, "turn", "floor"]
