"""A whole run, with a daemon of its own: what it writes is complete, and its counts are those of the events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.tiny_models import plain

from benchmark.classes import SUFFIX
from benchmark.command import main
from benchmark.results import Report, Row, read

ROOT = Path(__file__).resolve().parents[2]
WARM = {
    "second and later clients": SUFFIX,
    **{f"suffix of {tokens}": tokens for tokens in (1, 16, 64, 256)},
    "undo": SUFFIX,
    "edit in the middle, then thinking": SUFFIX,
    "branch switch back": SUFFIX,
    "branch switch there again": SUFFIX,
}
"""Rows of turns whose prefix is there, and the tokens of the suffix, which are all that is computed."""


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """As `scripts/bench` starts it."""
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT / "scripts", capture_output=True, text=True, check=False, timeout=280
    )


def rows_of(report: Report) -> dict[str, Row]:
    return {row.label: row for row in report.rows}


def counts(row: Row, side: str) -> set[tuple[Any, Any, Any]]:
    return {
        (took.prefilled_tokens, took.reused_tokens, took.restored_tokens)
        for took in row.samples[side]
        if took is not None
    }


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model for llama.cpp, small enough to be computed in no time."""
    path = tmp_path / "tiny.gguf"
    plain(path, layers=1)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits that each change a file."""
    folder = tmp_path / "repository"
    git = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    for number in range(3):
        (folder / "a.py").write_text(f"first = 1\nlast = {number}\n")
        (folder / "b.py").write_text(f"other = {number // 2}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "x"], check=True)
    return folder


@pytest.mark.timeout(300)
def test_a_quick_run_measures_every_kind_of_turn(tmp_path: Path) -> None:
    """With SmolLM2: a small end of a tiny model is sooner computed again than kept, and an undo rightly does so."""
    out = tmp_path / "out"
    given = ["--quick", "--no-peer", "--depths", "400", "--minutes", "3"]
    given += ["--repeats", "2"]
    done = bench(*given, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "events.svg",
        "results.csv",
        "results.json",
        "suffix-growth.svg",
    ]
    report = read(out / "results.json")
    assert str(tmp_path) not in (out / "results.json").read_text()
    assert (report.machine.chosen, report.sides[0].flags) == ({}, ["serve", "--no-measure"])
    rows = rows_of(report)
    assert {row.prefix_tokens for row in rows.values()} == {400}
    for side in ("sessiond", "floor"):
        # Every cold prefix begins with the frame of a file.
        assert {
            (computed + known, known < 20, back) for computed, known, back in counts(rows["cold"], side)
        } == {(400 + SUFFIX, True, 0)}
        for label, tokens in WARM.items():
            assert {(computed, known + back) for computed, known, back in counts(rows[label], side)} == {
                (tokens, 400)
            }, label
        assert all(
            400 * 0.3 < computed < 400 * 0.7
            for computed, _, _ in counts(rows["edit in the middle, asked at once"], side)
        )
    assert [row.name for row in report.caching][:2] == ["reset", "eval"]
    assert "cold" in done.stdout and "of the floor" in done.stdout
    shown = bench("show", out / "results.json")
    assert (shown.returncode, shown.stdout.splitlines()[:3]) == (0, done.stdout.splitlines()[:3])


@pytest.mark.timeout(300)
def test_restart_memory_and_a_day_are_measured(tmp_path: Path, tiny: Path, repository: Path) -> None:
    out = tmp_path / "out"
    given = ["--classes", "restart,memory,day", "--no-peer", "--depths", "400", "--minutes", "6"]
    given += ["--clients", "2", "--commits", "2", "--no-measure", "--repeats", "5"]
    done = bench(*given, "--repo", repository, "--model", tiny, "--out", out)
    assert done.returncode == 0, done.stderr
    report = read(out / "results.json")
    [restart] = report.rows
    assert all(restored >= 380 for _, _, restored in counts(restart, "floor"))
    assert counts(restart, "sessiond")
    assert [told for told in report.not_measured if not told.startswith("suffixes of 4000")] == []
    assert all(len(took) == 5 for took in restart.samples.values())
    assert all(took.opened_ms for took in restart.samples["sessiond"] if took is not None)
    assert report.day_history in subprocess.check_output(
        ["git", "-C", repository, "rev-parse", "HEAD"], text=True
    )
    ours, floor = report.sides
    assert set(ours.flags_by_work) == set(floor.flags_by_work) == {"400", "day"}
    assert [row.name for row in report.memory][-1] == "and a second engine on the same file"
    assert all(row.pss_bytes > row.weights_bytes > 0 for row in report.memory)
    # Neither the floor nor the daemon of the rows has a part of what one engine maps; and the day has them again.
    [alone] = report.memory[0].engines
    assert report.memory[0].weights_bytes == alone.resident_weights_bytes
    assert len(report.notes) == 1
    assert all(turn.took["floor"] is not None for turn in report.day)
    assert report.day[0].kind == "cold"
    assert {turn.kind for turn in report.day} >= {"save", "plain"}
    for turn in report.day:
        took = turn.took["sessiond"]
        assert took is not None and took.prefilled_tokens is not None
        if turn.kind == "plain":
            assert took.prefilled_tokens <= 16


@pytest.mark.timeout(300)
def test_without_a_model_file_the_floor_is_told_to_be_missing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = [
        "--quick",
        "--no-peer",
        "--classes",
        "suffix",
        "--depths",
        "200",
        "--minutes",
        "0.2",
        "--measure",
    ]
    done = bench(*given, "--model", "scripted-kv:", "--plant", "20", "--out", out)
    assert done.returncode == 0, done.stderr
    report = read(out / "results.json")
    assert set(rows_of(report)) == {f"suffix of {tokens}" for tokens in (1, 16, 64, 256)}
    assert all("no file" in row.not_measured["floor"] for row in report.rows)
    assert "planted=0.2" in report.sides[0].flags
    assert report.machine.ways == []
    assert any("nothing to choose" in told for told in report.not_measured)
    checked = bench("check", out / "results.json", out / "results.json")
    assert checked.returncode == 2
    assert "nothing can be said" in checked.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ["--classes", "luck"],
        ["--depths", "many"],
        ["--depths", "3"],
        ["--minutes", "0"],
        ["--repeats", "0"],
        ["--quick", "--classes", "crowd"],
        ["--clients", "1"],
    ],
)
def test_wrong_usage_is_told_before_anything_starts(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--no-peer", *wrong])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "show"])
def test_files_that_are_no_results_are_status_2(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    assert main([command, str(wrong), *([str(wrong)] if command == "check" else [])]) == 2
    assert "no results" in capsys.readouterr().err
