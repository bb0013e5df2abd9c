"""Whatever happens to the files, the next EnsurePrefix serves what they say: not one stale byte, token or cell."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, eventually
from tests.e2e.fresh import MODEL, Journal, assert_fresh, digest_of_file, served, window
from tests.e2e.turns import in_background

from sessiond.client import Client, InvalidInput, Session
from sessiond.daemon.workspace.wishes import Wishes

_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """The one that the tests know too."""
    return MODEL


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace of some files."""
    made = tmp_path / "root"
    for number in range(12):
        _write(made / f"src/m{number % 3}/file{number}.py", f"value = {number}\n" * 3)
    _write(made / "README.md", "what it is\n")
    return made


@pytest.fixture
def session(client: Client, root: Path) -> Iterator[Session]:
    """A session that is kept hot over it."""
    opened = client.open_session(workspace_root=root, config=window())
    assert_fresh(opened, root)
    yield opened
    opened.close()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def _ensure_while(busy: Future[None], journal: Journal, session: Session) -> int:
    """Asks again and again until that is done; says how often."""
    asked = 0
    while not busy.done():
        journal.ensure(session)
        asked += 1
    busy.result()
    return asked


def _refused(session: Session) -> bool:
    """Whether the workspace is refused because there is none."""
    with pytest.raises(InvalidInput) as caught:
        session.ensure_prefix(workspace=True)
    return [violation.field for violation in caught.value.violations] == ["workspace_root"]


def _runs(daemon: Daemon) -> int:
    """Background prefills that came to their end."""
    return len(daemon.records("keep_hot.finished"))


def _is_watched(daemon: Daemon, file: Path) -> None:
    """Until a save of it, and nothing else, sets off a background prefill."""
    before = _runs(daemon)

    def save() -> bool:
        _write(file, f"noticed = {time.monotonic_ns()}\n")
        time.sleep(0.2)
        return _runs(daemon) > before

    eventually(save, "a save is noticed")


@pytest.mark.parametrize("in_place", [False, True], ids=["by rename", "in place"])
def test_a_thousand_saves(session: Session, root: Path, in_place: bool) -> None:
    journal = Journal(root)

    def save() -> None:
        for number in range(1000):
            journal.save(
                f"src/m{number % 3}/file{number % 12}.py", f"saved = {number}\n" * 2, in_place=in_place
            )
            time.sleep(0.001)

    with in_background(save) as saving:
        asked = _ensure_while(saving, journal, session)
    assert asked > 3
    assert_fresh(session, root)


def test_a_formatter_over_all_files(session: Session, root: Path) -> None:
    journal = Journal(root)
    files = sorted(root.rglob("*.py"))

    def run() -> None:
        for width in range(30):
            for file in files:
                journal.save(file.relative_to(root).as_posix(), f"value = [\n{' ' * (width % 9)}1,\n]\n")

    with in_background(run) as running:
        _ensure_while(running, journal, session)
    assert_fresh(session, root)


def test_files_that_come_and_go_while_they_are_read(session: Session, root: Path) -> None:
    over = threading.Event()
    texts = {f"src/passing{number}.py": f"passing = {number}\n" for number in range(40)}
    whole = {path: {digest_of_file(path, text), digest_of_file(path, "")} for path, text in texts.items()}
    still = {path: told for path, told in served(session).items() if path not in texts}

    def come_and_go() -> None:
        while not over.is_set():
            for path, text in texts.items():
                _write(root / path, text)
            for path in texts:
                (root / path).unlink()

    with in_background(come_and_go) as passing:
        try:
            for _ in range(30):
                session.ensure_prefix(workspace=True)
                told = served(session)
                assert {path: told[path] for path in still} == still
                assert all(told[path] in whole[path] for path in told.keys() - still.keys())
        finally:
            over.set()
        passing.result()
    assert_fresh(session, root)


def test_a_checkout_of_ten_thousand_files(client: Client, daemon: Daemon, tmp_path: Path) -> None:
    root, room = tmp_path / "big", 16_384
    paths = [f"d{number % 100}/f{number}.py" for number in range(10_000)]

    def fill(branch: str) -> None:
        for number, path in enumerate(paths):
            (root / path).write_text(f"{branch} = {number}\n")

    for folder in range(100):
        (root / f"d{folder}").mkdir(parents=True)
    # The weights of a history are read once for a session, and would be others for the assembly it is compared with.
    _write(root / ".sessiond.toml", 'order = "path"\n')
    _git(root, "init", "-q", "-b", "one")
    for branch in ("one", "two"):
        fill(branch)
        _git(root, "add", ".")
        _git(root, "commit", "-q", "-m", branch)
        if branch == "one":
            _git(root, "checkout", "-q", "-b", "two")
    session = client.open_session(workspace_root=root, config=window(room))
    told = {
        path: {digest_of_file(path, f"{branch} = {number}\n") for branch in ("one", "two")}
        for number, path in enumerate(paths)
    }
    assert_fresh(session, root, room)
    for branch in ("one", "two"):
        with in_background(partial(_git, root, "checkout", "-q", branch)) as switching:
            while not switching.done():
                session.ensure_prefix(workspace=True)
                # git deletes a file before it writes it, and it is empty before it is full.
                for path, found in served(session).items():
                    assert path not in told or found in told[path] | {digest_of_file(path, "")}
            switching.result()
        status, text = assert_fresh(session, root, room)
        assert f"\n{branch} = 0\n" in text
        assert status.prefix_tokens > room / 2
    session.close()


def test_a_stash_and_its_return(session: Session, root: Path) -> None:
    _write(root / ".sessiond.toml", 'order = "path"\n')
    _git(root, "init", "-q", "-b", "main")
    _git(root, "add", ".")
    _git(root, "commit", "-q", "-m", "one")
    _, before = assert_fresh(session, root)
    for file in root.rglob("*.py"):
        _write(file, "changed = True\n")
    _write(root / "new.py", "new = True\n")
    _, changed = assert_fresh(session, root)
    _git(root, "stash", "-u", "-q")
    assert assert_fresh(session, root)[1] == before
    _git(root, "stash", "pop", "-q")
    assert assert_fresh(session, root)[1] == changed != before


def test_a_root_that_is_deleted_and_made_again(session: Session, root: Path, daemon: Daemon) -> None:
    for turn in range(3):
        shutil.rmtree(root)
        assert _refused(session)
        root.mkdir()
        assert assert_fresh(session, root)[1] == ""
        _write(root / "src/m0/file0.py", f"again = {turn}\n")
        assert f"again = {turn}" in assert_fresh(session, root)[1]
    _is_watched(daemon, root / "src/m0/file0.py")
    assert_fresh(session, root)


def test_a_workspace_that_is_moved(client: Client, session: Session, root: Path, tmp_path: Path) -> None:
    whole = assert_fresh(session, root)[1]
    root.rename(tmp_path / "moved")
    assert _refused(session)
    moved = client.open_session(workspace_root=tmp_path / "moved", config=window())
    assert assert_fresh(moved, tmp_path / "moved")[1] == whole
    _write(tmp_path / "moved/src/m0/file0.py", "after_the_move = True\n")
    _write(root / "other.py", "another_folder = True\n")
    assert "after_the_move" in assert_fresh(moved, tmp_path / "moved")[1]
    assert assert_fresh(session, root)[1] == "=== other.py ===\nanother_folder = True\n\n"
    moved.close()


def test_a_root_whose_parent_is_exchanged(client: Client, tmp_path: Path, daemon: Daemon) -> None:
    for place in ("here", "there"):
        _write(tmp_path / place / "root/file.py", f"{place} = True\n")
    root = tmp_path / "here/root"
    session = client.open_session(workspace_root=root, config=window())
    assert "here = True" in assert_fresh(session, root)[1]
    (tmp_path / "here").rename(tmp_path / "away")
    (tmp_path / "there").rename(tmp_path / "here")
    assert "there = True" in assert_fresh(session, root)[1]
    _is_watched(daemon, root / "file.py")
    assert_fresh(session, root)
    session.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify says that events were lost")
def test_events_that_are_dropped(session: Session, root: Path, daemon: Daemon) -> None:
    _is_watched(daemon, root / "a.txt")
    rescans: list[bool] = []

    def listen() -> None:
        for event in session.watch(timeout=60):
            if event.HasField("files_changed"):
                rescans.append(not event.files_changed.paths)
                if rescans[-1]:
                    return

    with in_background(listen) as listening:
        eventually(lambda: _heard(root, rescans), "the watch is on")
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            with (root / "a.txt").open("wb", buffering=0) as a, (root / "b.txt").open("wb", buffering=0) as b:
                # By turns: the kernel makes one of equal events that follow each other.
                for _ in range(int(_QUEUE.read_text()) + 1):
                    a.write(b"x\n")
                    b.write(b"y\n")
                    os.ftruncate(a.fileno(), 2)
                    os.ftruncate(b.fileno(), 2)
            _write(root / "src/m1/file1.py", "nobody_heard = True\n")
            _write(root / "made/unheard/new.py", "nobody_heard_either = True\n")
            (root / "src/m2").rename(root / "renamed")
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        text = assert_fresh(session, root)[1]
        listening.result(30)
    assert "nobody_heard = True" in text and "nobody_heard_either" in text
    _is_watched(daemon, root / "made/unheard/new.py")
    _is_watched(daemon, root / "renamed/file2.py")
    assert_fresh(session, root)


def _heard(root: Path, rescans: list[bool]) -> bool:
    _write(root / "a.txt", str(time.monotonic_ns()))
    time.sleep(0.1)
    return bool(rescans)


def _in_the_same_moment(path: Path, text: str) -> None:
    """A save that shows in nothing but the content: same file, same size, same time."""
    before = path.stat()
    assert len(text.encode()) == before.st_size
    with path.open("r+b") as file:
        file.write(text.encode())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns,
        before.st_size,
        before.st_ino,
    )


def test_a_save_that_changes_neither_time_nor_size(session: Session, root: Path) -> None:
    file = root / "src/m0/file0.py"
    for word in ("one", "two", "six"):
        _in_the_same_moment(file, f"value = {word[0]}\n" * 3)
        assert f"value = {word[0]}\n" in assert_fresh(session, root)[1]


def test_a_buffer_ends_with_a_save_that_changes_neither_time_nor_size(
    client: Client, session: Session, root: Path
) -> None:
    path = "src/m0/file0.py"
    client.workspace(root).set_buffer(path, "unsaved = True\n")
    assert "unsaved" in assert_fresh(session, root, wishes=Wishes(buffers={path: "unsaved = True\n"}))[1]
    _in_the_same_moment(root / path, "value = s\n" * 3)
    assert "value = s" in assert_fresh(session, root)[1]


def _acts(root: Path, rng: random.Random) -> list[Callable[[], object]]:
    """What may happen to a tree. An act that cannot be done there changes nothing."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    folders = sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())
    file, other = rng.choice(files or [root / "none"]), rng.choice(files or [root / "none"])
    folder = rng.choice(folders or [root / "none"])
    name, number = f"n{rng.randrange(9)}", rng.randrange(10_000)
    return [
        lambda: _write(root / f"src/{name}.py", f"made = {number}\n"),
        lambda: file.write_text(f"rewritten = {number}\n"),
        lambda: _in_the_same_moment(file, "z" * file.stat().st_size),
        lambda: _write(folder / name, f"new = {number}\n"),
        lambda: _write(folder / name / "deep.py", f"deep = {number}\n"),
        file.unlink,
        lambda: file.replace(other),
        lambda: file.rename(folder / name),
        lambda: shutil.rmtree(folder),
        lambda: folder.rename(root / name),
        lambda: (folder / name).symlink_to(file),
        lambda: _write(folder / ".gitignore", rng.choice(["*.py\n", "n*\n", "!n1\n", ""])),
        lambda: file.write_bytes(b"binary\0"),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_changes(session: Session, root: Path, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        for _ in range(rng.randrange(1, 4)):
            try:
                rng.choice(_acts(root, rng))()
            except OSError:
                continue
        assert_fresh(session, root)
