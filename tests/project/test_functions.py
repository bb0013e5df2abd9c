"""The measurement of functions, in short: on a scripted model, beside nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.tiny_models import plain

import functions

ROOT = Path(__file__).resolve().parents[2]


def _measured(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/functions.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_calls_compute_what_is_new() -> None:
    done = _measured(
        *("--model", "scripted-kv:num_ctx=4096", "--no-peer", "--calls", "40", "--block", "10"),
        *("--body", "300", "--argument", "12", "--answer", "4"),
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert 40 * (12 + 1) < told["tokens"]["new"] <= 40 * (12 + 4)
    assert 0.9 < told["tokens"]["ratio"] <= told["tokens"]["limit"] == 1.02
    assert told["met"] is True
    for way in functions.WAYS:
        assert list(told[way]["calls_a_second"]) == ["ours"]
        assert told[way]["calls_a_second"]["ours"] > 0
    assert told["not_measured"] == ["bare: the model is no file that llama.cpp could load"]


def test_the_faster_server_counts() -> None:
    took = functions.Seconds()
    for ours, on, off, bare in ((1.0, 4.0, 2.0, 0.5), (1.0, 5.0, 3.0, 0.5), (2.0, 8.0, 8.0, 1.0)):
        for side, seconds in (("ours", ours), ("flash_attn_on", on), ("flash_attn_off", off), ("bare", bare)):
            took.note(side, seconds)
    told = took.told(10)
    assert told["ours_to"] == {"flash_attn_on": 4.0, "flash_attn_off": 3.0, "bare": 0.5}
    assert told["ours_to_the_best_server"] == 3.0
    assert told["calls_a_second"] == {
        "ours": 10.0,
        "flash_attn_on": 2.0,
        "flash_attn_off": 10 / 3,
        "bare": 20.0,
    }


@pytest.mark.parametrize("wrong", [["--calls", "0"], ["--body", "-1"], ["--flash", "maybe"]])
def test_wrong_usage_is_told(wrong: list[str]) -> None:
    done = _measured(*wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr


def test_what_cannot_be_measured_is_said() -> None:
    done = _measured("--model", "scripted-kv:num_ctx=256", "--no-peer", "--body", "4000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "would not fit" in done.stderr


def test_the_bare_work_is_beside_us_where_the_model_is_a_file(tmp_path: Path) -> None:
    plain(tmp_path / "tiny.gguf", layers=1)
    done = _measured(
        *("--model", str(tmp_path / "tiny.gguf"), "--no-peer", "--calls", "20", "--block", "5"),
        *("--body", "200", "--argument", "8", "--answer", "4"),
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["tokens"]["new"] == 20 * (8 + 4)
    # Two arguments that begin alike, and run at one moment, share their beginning.
    assert 0.95 <= told["tokens"]["computed"] / told["tokens"]["new"] <= 1.02
    for way in functions.WAYS:
        assert told[way]["calls_a_second"]["bare"] > 0
        assert list(told[way]["ours_to"]) == ["bare"]
    assert told["not_measured"] == []
