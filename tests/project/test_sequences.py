"""The measurement of what one sequence more costs runs on any model with cells, and says why not on others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.tiny_models import plain, recurrent

from sequences import MOST, STREAMS, Steps
from sessiond.adapters.llama_cpp.library import library

ROOT = Path(__file__).resolve().parents[2]


def sequences(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/sequences.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_context_is_held_against_the_first(tmp_path: Path) -> None:
    plain(tmp_path / "tiny.gguf", layers=1)
    done = sequences("--model", tmp_path / "tiny.gguf", "--depth", "300", "--rounds", "4")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["streams"], told["depth"], told["rounds"]) == (STREAMS, 300, 4)
    assert list(told["step_ms"]) == list(MOST)
    assert list(told["ratio_to_64"]) == list(told["quartiles"]) == list(MOST)[1:]
    for name, (low, high) in told["quartiles"].items():
        assert 0 < low <= told["ratio_to_64"][name] <= high


def test_a_step_leaves_all_as_it_was(tmp_path: Path) -> None:
    plain(tmp_path / "tiny.gguf", layers=1)
    low: Any = library()
    model = low.llama_model_load_from_file(
        str(tmp_path / "tiny.gguf").encode(), low.llama_model_default_params()
    )
    try:
        steps = Steps(model, 66, 40)
        assert (steps._context.max_sequences, low.llama_n_seq_max(steps._context._native)) == (65, 66)
        for _ in range(3):
            assert steps.step_ms() > 0
            assert [steps._context.end(stream) for stream in range(STREAMS)] == [40] * STREAMS
        steps.close()
    finally:
        low.llama_model_free(model)


def test_a_model_without_cells_is_refused(tmp_path: Path) -> None:
    recurrent(tmp_path / "tiny.gguf", layers=1)
    done = sequences("--model", tmp_path / "tiny.gguf", "--depth", "30", "--rounds", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a state for each sequence" in done.stderr


@pytest.mark.parametrize(
    ("content", "depth", "words"),
    [(b"no model at all", "30", "not a GGUF"), (None, "1000000", "was trained for")],
)
def test_what_cannot_be_measured_is_said(
    content: bytes | None, depth: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    plain(path, layers=1)
    if content is not None:
        path.write_bytes(content)
    done = sequences("--model", path, "--depth", depth)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.parametrize("wrong", [["--depth", "0"], ["--rounds", "1"]])
def test_wrong_usage_is_told(wrong: list[str]) -> None:
    done = sequences(*wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr
