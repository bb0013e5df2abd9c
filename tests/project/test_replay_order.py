"""How an order is judged by what was edited after it: by hand-made histories, and by the script itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from replay_splits import (
    RULES,
    Version,
    by_own_figure,
    counted,
    half_written,
    ratios,
    while_writing,
)
from sessiond.daemon.workspace.commits import HALF_LIFE, MAX_CHANGES

ROOT = Path(__file__).resolve().parents[2]


def text(number: int, size: int = 1_000) -> bytes:
    return b"%07d\n" % number * (size // 8)


def history(*edits: str) -> list[Version]:
    """Versions of three equal files, of which each letter names the one that a commit edits."""
    versions: list[Version] = [{name: text(0) for name in "abc"}]
    for number, name in enumerate(edits, 1):
        versions.append({**versions[-1], name: text(number)})
    return versions


def test_edits_count_as_those_of_commits_do() -> None:
    once = [2 ** (-age / HALF_LIFE) for age in range(3)]
    assert counted(history("a", "b", "a")) == pytest.approx({"a": once[0] + once[2], "b": once[1]})
    many = {f"{number}": b"x" for number in range(MAX_CHANGES + 1)}
    assert counted([{}, many]) == {}
    assert counted([{"a": b"x"}, {}]) == {}


def test_what_was_foreseen_costs_less_and_what_was_not_costs_more() -> None:
    foreseen = ratios(history(*"aaaaaa"), 3)
    assert foreseen["path"] == 1.0
    assert foreseen["daemon"] == foreseen["edits per byte"] == pytest.approx(500 / 2_500)
    surprised = ratios(history(*"aaaccc"), 3)
    assert surprised["daemon"] == pytest.approx(1_500 / 500)


def test_half_of_a_commit_is_written_half_way() -> None:
    before = {"a": b"1\n2\n3\n", "b": b"1\n", "c": b"1\n"}
    after = {"a": b"0\n2\n4\n", "b": b"1\n", "d": b"12345678", "e": b"new"}
    tree = half_written(before, after)
    assert tree["b"] == before["b"]
    assert sum(tree.get(path) != content for path, content in before.items()) + ("d" in tree) == 2
    assert "e" not in tree and tree != after


def test_what_is_being_written_is_edited_next() -> None:
    versions = history(*"aaa")
    for number in range(4, 10):
        versions.append({**versions[-1], "b": versions[-1]["b"] + text(number)})
    without, with_it = while_writing(versions, 3, 6)
    assert with_it < without


def test_a_new_file_is_dear_where_it_stands_among_others_and_not_at_the_end() -> None:
    versions = history("b")
    versions.append({**versions[-1], "0": text(9)})
    found = ratios(versions, 1)
    assert found["daemon"] == pytest.approx(500 / 3_500)


def test_a_file_without_an_edit_is_the_calmest_by_its_own_figure_alone() -> None:
    sizes, weights = {"large": 40_000, "tiny": 8, "hot": 4_000}, {"large": 1.0, "hot": 9.0}
    assert by_own_figure(sizes, weights).calmest_first(sizes) == ["tiny", "large", "hot"]
    assert RULES["daemon"](sizes, weights).calmest_first(sizes) == ["large", "tiny", "hot"]


def git(folder: Path, *arguments: str) -> None:
    environ = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    named = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *named, *arguments]
    subprocess.run(command, env=environ, check=True, capture_output=True)


def judged(repo: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/replay_order.py"), "--repo", str(repo)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("edits", "status"), [("aaaaaaaa", 0), ("aaaacccc", 1)])
def test_the_script_says_what_each_rule_costs(tmp_path: Path, edits: str, status: int) -> None:
    git(tmp_path, "init", "--quiet")
    for version in history(*edits):
        for name, content in version.items():
            (tmp_path / name).write_bytes(content)
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "--quiet", "--message", "x")
    done = judged(tmp_path)
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    assert found["commits"] == len(edits) + 1
    assert set(found["cost_of_path_order"]) == set(RULES)
    assert set(found["cost_of_path_order"]["path"].values()) == {1.0}


def test_where_there_is_no_history_that_is_told(tmp_path: Path) -> None:
    done = judged(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no git repository" in done.stderr
