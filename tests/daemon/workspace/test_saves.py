"""What saves count, and how long."""

from __future__ import annotations

import pytest

from sessiond.daemon.workspace import saves as saves_module
from sessiond.daemon.workspace.saves import COUNTS, HALF_LIFE, MAX_PATHS, MOST_AT_ONCE, Saves


def test_each_save_counts_and_the_newest_most() -> None:
    saves = Saves()
    assert saves.weights() == {}
    for path in ("a", "b", "a"):
        saves.happened([path])
    once = [COUNTS * 2 ** (-age / HALF_LIFE) for age in range(3)]
    assert saves.weights() == pytest.approx({"a": once[0] + once[2], "b": once[1]})
    for _ in range(HALF_LIFE):
        saves.happened(["other"])
    assert saves.weights()["b"] == pytest.approx(once[1] / 2)


def test_many_files_at_once_say_nothing() -> None:
    saves = Saves()
    saves.happened([f"{number}" for number in range(MOST_AT_ONCE + 1)])
    assert saves.weights() == {}
    saves.happened([f"{number}" for number in range(MOST_AT_ONCE)])
    assert len(saves.weights()) == MOST_AT_ONCE


def test_only_so_many_paths_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PATHS > MOST_AT_ONCE
    monkeypatch.setattr(saves_module, "MAX_PATHS", 2)
    saves = Saves()
    for path in ("a", "b", "a", "c"):
        saves.happened([path])
    assert set(saves.weights()) == {"a", "c"}
