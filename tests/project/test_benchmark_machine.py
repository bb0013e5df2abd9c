"""Where a run took place: which checkout ran, and how much of the machine others had meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from dulwich import porcelain

from benchmark import load, machine

LINUX = ("user", "system", "idle", "nice", "softirq", "steal")
ELSEWHERE = ("user", "system", "idle")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in which a file is ignored."""
    porcelain.init(tmp_path)
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "code.py").write_text("1\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "made").write_text("")
    porcelain.add(tmp_path, [tmp_path / "code.py", tmp_path / ".gitignore"])
    porcelain.commit(tmp_path, message=b"one", author=b"A <a@b>", committer=b"A <a@b>")
    monkeypatch.setattr(machine, "SOURCE", tmp_path)
    return tmp_path


def test_a_checkout_that_is_its_commit_is_told_by_it(checkout: Path) -> None:
    told = machine.our_version()
    assert told.endswith(")") and "dirty" not in told
    assert len(told.split("(")[1]) == 13


@pytest.mark.parametrize("change", ["edited", "new", "staged", "gone"])
def test_what_is_no_commit_says_so(checkout: Path, change: str) -> None:
    file = checkout / ("new.py" if change == "new" else "code.py")
    if change == "gone":
        file.unlink()
    else:
        file.write_text("2, and more\n")
    if change == "staged":
        porcelain.add(checkout, [file])
    assert machine.our_version().endswith("+dirty)")


def test_what_is_no_checkout_has_a_version_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "SOURCE", tmp_path)
    assert "(" not in machine.our_version()


def share(monkeypatch: pytest.MonkeyPatch, fields: Sequence[str], **more: float) -> float:
    """Of two cores in ten seconds, in which the system's counters went up by so many."""
    before = dict.fromkeys(fields, 100.0)
    now = [before, {name: value + more.get(name, 0.0) for name, value in before.items()}]
    clock = SimpleNamespace(monotonic=iter([50.0, 60.0]).__next__)
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(**now.pop(0)))
    monkeypatch.setattr(load, "time", clock)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(load.OtherLoad, "_own", lambda self: 0.0)
    return load.OtherLoad().share()


def test_what_a_virtual_machines_host_took_away_is_load_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share(monkeypatch, LINUX, steal=4.0, idle=16.0) == pytest.approx(0.2)


def test_idle_cores_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share(monkeypatch, LINUX, idle=20.0) == 0.0


def test_where_nothing_tells_what_was_taken_away_the_rest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share(monkeypatch, ELSEWHERE, user=2.0, system=3.0) == pytest.approx(0.25)
