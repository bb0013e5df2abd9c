"""Setup does nothing where there is nothing to do, and goes on to the next build where one is at fault."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import build_llama
import build_progress
import provision

ROOT = Path(__file__).resolve().parents[2]

NO_NETWORK = {
    "UV_OFFLINE": "1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}

needs_setup = pytest.mark.skipif(
    not provision.STAMP.exists() or provision.STAMP.read_text() != provision.stamp(),
    reason="this environment was not made by scripts/setup, or not from these files",
)


@needs_setup
def test_a_second_run_is_quick_and_offline() -> None:
    started = time.monotonic()
    environ = {**os.environ, **NO_NETWORK}
    done = subprocess.run([ROOT / "scripts/setup"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert time.monotonic() - started < 5


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[build_llama.Plan]:
    """Three plans, of which nothing is really installed; the record goes to a temporary folder."""
    plans = [build_llama.Plan(name, name, {"NAME": name}) for name in ("first", "second", "third")]
    monkeypatch.setattr(build_llama, "plans", lambda *_: plans)
    monkeypatch.setattr(provision, "shared_copy", lambda path: path)
    monkeypatch.setattr(provision, "drop_llama", lambda: None)
    monkeypatch.setattr(provision, "BUILD_RECORD", tmp_path / "build.json")
    return plans


def run_ladder(monkeypatch: pytest.MonkeyPatch, faulty: set[str]) -> list[str]:
    """Install with these plans at fault; the names of those that were built."""
    built: list[str] = []
    monkeypatch.setattr(provision, "install", lambda plan: built.append(plan.name))
    monkeypatch.setattr(provision, "selftest_fault", lambda: "SIGSEGV" if built[-1] in faulty else None)
    provision.install_locked()
    return built


@pytest.mark.usefixtures("ladder")
def test_a_sound_build_ends_the_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_ladder(monkeypatch, faulty=set()) == ["first"]


@pytest.mark.usefixtures("ladder")
def test_a_build_at_fault_gives_way_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_ladder(monkeypatch, faulty={"first"}) == ["first", "second"]
    assert run_ladder(monkeypatch, faulty={"first"}) == ["second"]


@pytest.mark.usefixtures("ladder")
def test_setup_fails_where_no_build_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(provision.SetupError, match="no build"):
        run_ladder(monkeypatch, faulty={"first", "second", "third"})


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it died of SIGSEGV"),
        ("print('wrong answer'); raise SystemExit(1)", "wrong answer"),
    ],
)
def test_the_self_test_sees_deaths_and_wrong_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, fault: str
) -> None:
    selftest = tmp_path / "selftest.py"
    selftest.write_text(program)
    monkeypatch.setattr(provision, "SELFTEST", selftest)
    assert provision.selftest_fault() == fault


@pytest.mark.model
def test_the_build_of_this_environment_is_sound() -> None:
    done = subprocess.run(
        [sys.executable, "-P", provision.SELFTEST], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["sound"] is True


def test_what_cannot_be_tested_is_not_taken_for_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    selftest = tmp_path / "selftest.py"
    selftest.write_text("print('no model'); raise SystemExit(2)")
    monkeypatch.setattr(provision, "SELFTEST", selftest)
    with pytest.raises(provision.SetupError, match="no model"):
        provision.selftest_fault()


def test_the_lock_entry_of_uv_stands_alone() -> None:
    lines = provision.locked_requirement("uv").splitlines()
    assert lines[0].startswith("uv==")
    assert len(lines) > 1
    assert all("--hash=sha256:" in line for line in lines[1:])


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    progress = build_progress.Progress("llama.cpp", out)
    for step in range(1, 41):
        clock[0] += 1
        progress.feed(f"DEBUG [{step}/40] c++ -c something.cpp")
    assert out.getvalue().splitlines() == ["llama.cpp: 15/40 steps, 0:15", "llama.cpp: 30/40 steps, 0:30"]
