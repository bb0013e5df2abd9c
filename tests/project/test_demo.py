"""The demo says what it promises, and fails where a turn did not reuse what it should."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo_copy import MOST_FILE_BYTES, scratch_copy

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [
    "name",
    "reused_tokens",
    "restored_tokens",
    "prefilled_tokens",
    "suffix_tokens",
    "first_token_ms",
    "text",
]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo keeps its own files; pytest's own paths are too long for a socket."""
    path = Path(tempfile.mkdtemp(prefix="sd-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small project."""
    project = tmp_path / "a project"
    (project / "src").mkdir(parents=True)
    (project / "README.md").write_text("# A project\n\nIt counts retries.\n")
    for name in ("first", "second", "third", "fourth"):
        lines = [f"def {name}_{number}() -> int:\n    return {number}\n" for number in range(8)]
        (project / f"src/{name}.py").write_text("\n\n".join(lines))
    return project


def command(folder: Path, *arguments: str, model: str = "scripted-kv:") -> list[str]:
    return [sys.executable, str(ROOT / "scripts/demo_turns.py"), str(folder), "--model", model, *arguments]


def demo(
    folder: Path, temporary: Path, *arguments: str, model: str = "scripted-kv:"
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "TMPDIR": str(temporary), "SESSIOND_NUM_CTX": "nonsense"}
    done = subprocess.run(
        command(folder, *arguments, model=model), env=environ, capture_output=True, text=True, check=False
    )
    assert not list(temporary.iterdir()), "the demo left files behind"
    return done


def test_json_is_one_object_of_three_turns(folder: Path, temporary: Path) -> None:
    done = demo(folder, temporary, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(told) == ["turns"]
    assert all(list(turn) == FIELDS for turn in told["turns"])
    cold, warm, edited = told["turns"]
    assert [turn["name"] for turn in told["turns"]] == ["cold", "warm", "edited"]
    assert (cold["reused_tokens"], warm["prefilled_tokens"]) == (0, 0)
    assert warm["reused_tokens"] == cold["prefilled_tokens"]
    # The edit is late: most of what stands before it is kept.
    assert edited["reused_tokens"] > cold["prefilled_tokens"] / 2
    assert 0 < edited["prefilled_tokens"] < cold["prefilled_tokens"]


def test_the_table_shows_the_turns_and_why_the_last_one_computed(folder: Path, temporary: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = demo(folder, temporary)
    assert (done.returncode, done.stderr) == (0, "")
    for told in (
        "TURN",
        "\ncold ",
        "\nwarm ",
        "\nedited ",
        "changed at byte",
        "+ # A line that the demo added.",
    ):
        assert told in done.stdout
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", ["", "x", "def f() -> int:\n    return 1\n" * 130])
def test_one_file_in_a_folder_with_an_odd_name(tmp_path: Path, temporary: Path, content: str) -> None:
    folder = tmp_path / "ein Ordner mit Ümläuten 🌲"
    folder.mkdir()
    (folder / "eine Datei ß.py").write_text(content)
    done = demo(folder, temporary, "--json")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_longer_than_the_usual_budget_gets_a_larger_one(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "long.txt").write_text("0123456789" * 250)
    assert demo(tmp_path, temporary, "--json").returncode == 0


@pytest.mark.parametrize("files", [{}, {"picture": b"\x00\x01"}, {"huge.txt": b"word " * 20_000}])
def test_where_no_file_can_stand_in_a_prompt_there_is_nothing_to_show(
    tmp_path: Path, temporary: Path, files: dict[str, bytes]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = demo(tmp_path, temporary, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing to show" in done.stderr


def test_a_backend_that_does_not_say_what_it_reused_fails_the_demo(folder: Path, temporary: Path) -> None:
    done = demo(folder, temporary, "--json", model="scripted-prompt:silent")
    assert done.returncode == 1
    assert "the turn after the edit reused nothing" in done.stderr
    assert len(json.loads(done.stdout)["turns"]) == 3


def test_a_daemon_that_does_not_start_shows_the_end_of_its_log(folder: Path, temporary: Path) -> None:
    done = demo(folder, temporary, model="scripted-kv:die=SIGKILL@load")
    assert done.returncode == 1
    assert "before it served" in done.stderr
    assert "SIGKILL" in done.stderr.partition("the end of the daemon's log")[2]


def test_a_backend_that_dies_within_a_turn_is_told(folder: Path, temporary: Path) -> None:
    done = demo(folder, temporary, model="scripted-kv:die=SIGSEGV@decode:6")
    assert done.returncode == 1
    assert "SIGSEGV" in done.stderr


def test_wrong_usage_is_status_2(tmp_path: Path, temporary: Path) -> None:
    assert demo(tmp_path / "none", temporary).returncode == 2


def daemon_of(temporary: Path, running: subprocess.Popen[str]) -> int:
    """The process of the demo's daemon, as soon as it has one."""
    while True:
        assert running.poll() is None
        for lock in temporary.glob("*/d.sock.lock"):
            if told := lock.read_text():
                return int(told)
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("begun", [False, True], ids=["while its daemon starts", "early in a turn"])
def test_a_signal_ends_the_daemon_too(
    folder: Path, temporary: Path, number: signal.Signals, begun: bool
) -> None:
    moments = random.Random(number)
    for _ in range(3 if begun else 1):
        with subprocess.Popen(
            command(folder, model="scripted-kv:step_ms=300"),
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            daemon = daemon_of(temporary, process)
            assert process.stdout is not None
            while begun and not process.stdout.readline().startswith("cold:"):
                assert process.poll() is None
            time.sleep(moments.uniform(0, 0.05))
            process.send_signal(number)
            try:
                assert process.wait(20) == 128 + number
            finally:
                process.kill()
        assert not list(temporary.iterdir())
        with pytest.raises(ProcessLookupError):
            os.kill(daemon, 0)


def test_the_copy_follows_no_link_and_takes_files_of_a_bearable_size(tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    (source / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (source / "sub/kept").write_text("kept")
    (source / "link").symlink_to(outside / "secret")
    (source / "folder link").symlink_to(outside)
    (source / "large").write_bytes(b"x" * (MOST_FILE_BYTES + 1))
    os.mkfifo(source / "pipe")
    assert scratch_copy(source, tmp_path / "copy") == 1
    assert [path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()] == ["kept"]


def test_in_a_work_tree_the_copy_is_what_git_lists(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", source], check=True)
    (source / ".gitignore").write_text("*.log\n")
    (source / "sub/new file").write_text("new")
    (source / "noise.log").write_text("noise")
    assert scratch_copy(source, tmp_path / "copy") == 2
    assert (tmp_path / "copy/sub/new file").read_text() == "new"
    assert not (tmp_path / "copy/noise.log").exists()
    # A folder of a work tree is copied without what stands beside it.
    assert scratch_copy(source / "sub", tmp_path / "part") == 1
